"""Logging drivers as the engine reads them back: json-file with tail, since, until and follow across rotation."""
