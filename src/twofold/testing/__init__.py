"""Checks for what users add themselves: laws of aggregates, strategies of hostile values, every mode against the reference."""
