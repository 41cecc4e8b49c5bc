"""Aggregates, windows, tiles: pure, each compiled kernel beside its plain meaning."""
