"""The batch layer: loaded history and a prefix of the log, folded into immutable generations."""
