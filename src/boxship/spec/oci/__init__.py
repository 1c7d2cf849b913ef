"""Documents of the OCI image specification and of Docker's archive format, with the checks that hostile input needs.

Owns field names, media types, digest syntax and chain IDs. All of these documents come from strangers: every parser takes
bytes, bounds their size and depth, refuses duplicate keys and documents that can be read in two ways, and raises
:class:`InvalidDocument`. Fields that are not known are ignored, as the specification asks.

Words: diff ID is the digest of a layer's uncompressed tar, chain ID the digest of a layer and all layers below it
(image-spec, config.md, "Layer ChainID").
"""

from boxship.spec.oci.archive import ArchiveItem, parse_archive_manifest, parse_layout, parse_repositories
from boxship.spec.oci.config import History, ImageConfig, RootFS, chain_ids, encode_config, parse_config
from boxship.spec.oci.descriptor import Descriptor, Platform, check_digest, digest_of
from boxship.spec.oci.document import DOCUMENT_LIMIT, InvalidDocument
from boxship.spec.oci.manifest import Index, Manifest, parse_manifest

__all__ = [
    "DOCUMENT_LIMIT",
    "ArchiveItem",
    "Descriptor",
    "History",
    "ImageConfig",
    "Index",
    "InvalidDocument",
    "Manifest",
    "Platform",
    "RootFS",
    "chain_ids",
    "check_digest",
    "digest_of",
    "encode_config",
    "parse_archive_manifest",
    "parse_config",
    "parse_layout",
    "parse_manifest",
    "parse_repositories",
]
