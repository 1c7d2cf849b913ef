"""Images: references, manifests, import, load, save, list, tag, remove, history, and bootstrap from a package archive.

Owns the store's ``image`` and ``layer`` rows and the names of kind ``image``; which snapshots and blobs stay is decided
here. Does not own them: unpacking is ``snapshots``', blobs are ``content``'s. Knows containers only as users of images,
which the engine lists.

Words: *reference*, *familiar*, *normalised* (``images.reference``); *diff ID*, *chain ID* (``spec.oci``); *addition*, the
one operation that brings layers and images in (``images.layers``).
"""

from boxship.images.model import Image, ImageUser, NoSuchImage
from boxship.images.service import ImageService

__all__ = ["Image", "ImageService", "ImageUser", "NoSuchImage"]
