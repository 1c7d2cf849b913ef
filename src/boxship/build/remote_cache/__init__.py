"""Caches that other engines made, and this one's for others: in registries, directories of clients, images.

A *source* is a place that a cache comes from, an *offer* what it has. Results are found by the same keys as in the engine's own
cache, so an offer can only be wrong about what a step gives, as an image's publisher can; who names a source trusts it.
What is checked: digests, sizes, types and bounds of all that comes. Layers are brought when a step needs them, not before.
"""
