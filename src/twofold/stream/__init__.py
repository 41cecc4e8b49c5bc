"""The speed layer: what lies after the cut, folded into deltas, exactly once."""
