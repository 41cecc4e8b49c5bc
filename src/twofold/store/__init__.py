"""The online store: bytes under keys, generations, offsets; it never learns what a view is."""
