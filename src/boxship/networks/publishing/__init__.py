"""Ports of the host that lead to containers."""
