"""Composition root of ``boxshipd``: flags and daemon.json, wiring, listeners, signals."""
