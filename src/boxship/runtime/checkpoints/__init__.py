"""Checkpoint and restore of a container's processes with CRIU."""
