"""The command line: parses, calls the runtime, shows the answer."""
