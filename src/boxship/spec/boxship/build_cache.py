"""Build caches that leave an engine: what a client asks for, and the document that travels (docs/build.md, "Caches elsewhere")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from boxship.spec.oci.descriptor import check_digest
from boxship.spec.oci.document import InvalidDocument, convert, parse_json

CONFIG = "application/vnd.boxship.buildcache.config.v1+json"  # media type of the document as a manifest's config
ARCHIVE = "application/vnd.boxship.buildcache.mount.v1.tar+gzip"  # of a cache mount's files
INLINE = "boxship.buildcache.v1"  # member of an image's configuration
VERSION = 1

ENTRIES = 10_000
MOUNTS = 100
_NAME = 4096  # characters of a cache mount's name
_INPUTS = 200  # of one entry
_LATEST_NS = 1 << 62
_UNSEEN = re.compile(r"[^\x20-\x7e\xa1-\U0010ffff]")


class CacheImport(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """One ``--cache-from`` that names more than an image of this engine."""

    type: Literal["registry", "local"]
    ref: str = ""  # of registry
    directory: str = ""  # of local: an OCI layout inside the context's archive, which is no part of the context
    tag: str = "latest"  # of local, in index.json
    digest: str = ""  # of local, in place of the tag
    local_first: bool = False  # of registry: not when the engine has an image of that name

    def __post_init__(self) -> None:
        if self.type == "registry" and not self.ref:
            raise ValueError("registry cache importer requires ref")
        if self.type == "local" and not self.directory:
            raise ValueError("local cache importer requires src")


class CacheExport(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """One ``--cache-to``."""

    type: Literal["inline", "registry", "local"]
    ref: str = ""  # of registry
    mode: Literal["min", "max"] = "min"  # the layers of the result, or those of all steps
    image_manifest: bool = True  # else an index over the manifest
    oci_mediatypes: bool = True
    tag: str = "latest"  # of local, in index.json
    compression: Literal["", "gzip", "zstd", "uncompressed"] = ""  # "": as the layers are stored
    ignore_error: bool = False
    mounts: bool = False  # cache mounts too
    mounts_limit: int = 2 * 1024**3  # bytes of the files of one cache mount

    def __post_init__(self) -> None:
        if self.type == "registry" and not self.ref:
            raise ValueError("registry cache exporter requires ref")
        if self.image_manifest and not self.oci_mediatypes:
            raise ValueError(
                "invalid configuration for remote cache: OCI mediatypes are required for image-manifest cache format"
            )
        if not self.oci_mediatypes and self.compression == "zstd":
            raise ValueError("zstd needs OCI mediatypes")
        if self.mounts_limit < 0:
            raise ValueError(f"invalid mounts-limit {self.mounts_limit}")


class CacheWanted(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """What ``POST /boxship/build/cache`` shall give: records by id and cache mounts by name, as one export asks for them."""

    records: list[str]
    mounts: list[str] = []
    export: CacheExport


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A result: what it was made of, which is its key, and the layer that it puts on what is below."""

    kind: str
    platform: str = ""
    inputs: dict[str, str]
    layer: int = -1  # index of a layer; -1: it changed no file
    created_ns: int = 0
    description: str = ""  # the instruction, for people


class MountEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A cache mount."""

    name: str
    layer: int  # index of its archive among the layers


class CacheDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cache. Layers are those of the manifest that has it as config, or of the image whose configuration holds it."""

    version: int
    diff_ids: list[str] = []  # of the layers, "" for archives; none in an image, which has its own
    entries: list[Entry]
    mounts: list[MountEntry] = []


def read(data: bytes) -> CacheDocument:
    """Return the cache in a config. Raises InvalidDocument."""
    return check(parse_json(data, "build cache"))


def check(value: object) -> CacheDocument:
    """Return the cache that a JSON value is, which comes from a stranger. Raises InvalidDocument."""
    if isinstance(value, Mapping) and value.get("version") != VERSION:
        raise InvalidDocument(f"invalid build cache: unsupported version {str(value.get('version'))[:20]}")
    document = convert(value, CacheDocument, "build cache")
    if len(document.entries) > ENTRIES or len(document.mounts) > MOUNTS:
        raise InvalidDocument(f"invalid build cache: more than {ENTRIES} results or {MOUNTS} mounts")
    for diff_id in document.diff_ids:
        if diff_id:
            _digest(diff_id)
    for entry in document.entries:
        if entry.layer < -1 or not 0 <= entry.created_ns < _LATEST_NS or len(entry.inputs) > _INPUTS:
            raise InvalidDocument("invalid build cache: a result has impossible values")
    for mount in document.mounts:
        if mount.layer < 0 or not 0 < len(mount.name) <= _NAME:
            raise InvalidDocument("invalid build cache: a mount has impossible values")
    return document


def shown(description: str) -> str:
    """Return a stranger's text as it may be shown on a terminal."""
    return _UNSEEN.sub(" ", description[:1000])


def _digest(text: str) -> None:
    try:
        check_digest(text)
    except ValueError as exc:
        raise InvalidDocument(f"invalid build cache: {exc}") from exc
