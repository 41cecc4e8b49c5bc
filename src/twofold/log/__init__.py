"""The event log: record batches at positions, durable when acknowledged."""
