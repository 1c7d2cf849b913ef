"""Commands for containers and their processes."""
