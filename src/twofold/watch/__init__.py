"""Watching: what was served, and whether it was right."""
