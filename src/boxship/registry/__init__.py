"""The distribution specification from both ends: ``client`` fetches and pushes, ``server`` is a registry of our own.

Owns what goes over the wire between the two: references resolved to manifests, blobs, uploads, authentication, mirrors.
Does not own images: which blobs make one, and where its layers are unpacked, is ``images``'. The two sub-packages do not
know each other. Words are the specification's: *repository*, *manifest*, *blob*, *upload session*, *referrer*, *scope*.
"""
