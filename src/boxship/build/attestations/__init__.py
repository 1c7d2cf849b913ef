"""What is said about an image that was built: which packages it holds (SBOM), and how it was made (provenance).

Owns the lists of packages found in root filesystems, the SPDX and SLSA documents made of them, and the manifests that put
these beside an image. Does not own how an index with its members is kept and travels (``images.indexes``).

Words: a *statement* is in-toto's document, a *subject* (an image's manifest) and a *predicate* about it, whose *type* is a URI.
An *attestation* is a manifest whose layers are statements; it stands in an index beside the image that it is about.
"""
