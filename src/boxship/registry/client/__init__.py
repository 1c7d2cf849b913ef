"""The distribution specification's client: where a repository is, who we are there, and its manifests and blobs.

``hosts`` decides places and order, ``session`` is HTTP with bounds, ``auth`` answers challenges, ``repository`` reads,
``fetching`` moves blobs here and ``pushing`` there. Knows nothing of images, and writes to no disk of its own.
"""
