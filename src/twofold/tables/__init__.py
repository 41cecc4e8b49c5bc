"""Versioned tables of history and archive, and features at points in time computed from them."""
