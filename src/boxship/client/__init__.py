"""The Engine API client of the command line: a Unix, TCP or TLS socket, JSON, hijacked streams. Standard library only."""
