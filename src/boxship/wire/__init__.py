"""Protocols without I/O, bytes in and events out: attach frames, launcher and shim messages, json-file log records."""
