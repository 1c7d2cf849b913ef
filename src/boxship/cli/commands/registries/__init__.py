"""Commands for registries: log in, search, serve."""
