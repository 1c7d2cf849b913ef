"""Names as the specification has them: repositories, tags, digests; and the paths of the API that carry them.

A name that passed here is still never made part of a file's path: files are named by digests and random ids only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from boxship.content.digest import InvalidDigest, parse
from boxship.registry.server.errors import RegistryError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_UPLOAD = re.compile(r"[0-9a-f]{32}", re.ASCII)
NAME_LIMIT = 255

# The last keyword counts: "a/blobs/b" is a fine repository.
_PATHS = (
    ("uploads", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?")),
    ("upload", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<reference>[^/]+)")),
    ("tags", re.compile(r"/v2/(?P<name>.+)/tags/list")),
    ("blob", re.compile(r"/v2/(?P<name>.+)/blobs/(?P<reference>[^/]+)")),
    ("manifest", re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")),
    ("referrers", re.compile(r"/v2/(?P<name>.+)/referrers/(?P<reference>[^/]+)")),
)


class Target(NamedTuple):
    """What a path of the API means: ``kind`` is the name of a handler."""

    kind: str
    name: str  # of the repository
    reference: str  # tag, digest or upload id; "" without one


def parse_path(path: str) -> Target | None:
    """Return what a (decoded) path below ``/v2/`` addresses, None if nothing. Raises RegistryError NAME_INVALID."""
    for kind, pattern in _PATHS:
        if found := pattern.fullmatch(path):
            return Target(kind, check_name(found["name"]), found.groupdict().get("reference", ""))
    return None


def check_name(name: str) -> str:
    """Return a repository's name. Raises RegistryError NAME_INVALID."""
    if len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
        raise RegistryError("NAME_INVALID", {"name": name[: NAME_LIMIT + 1]})
    return name


def check_tag(tag: str) -> str:
    """Return a tag. Raises RegistryError TAG_INVALID."""
    if not _TAG.fullmatch(tag):
        raise RegistryError("TAG_INVALID", {"tag": tag[:129]}, message="invalid tag name")
    return tag


def check_digest(digest: str) -> str:
    """Return a digest of an algorithm known here. Raises RegistryError DIGEST_INVALID."""
    try:
        parse(digest)
    except InvalidDigest as exc:
        raise RegistryError("DIGEST_INVALID", str(exc)) from exc
    return digest


def check_reference(reference: str) -> str:
    """Return a tag or digest. Raises RegistryError TAG_INVALID, DIGEST_INVALID."""
    return check_digest(reference) if is_digest(reference) else check_tag(reference)


def is_digest(reference: str) -> bool:
    """Return whether a reference means a digest (perhaps an invalid one): tags have no colon."""
    return ":" in reference


def check_upload(id: str) -> str:
    """Return an upload's id. Raises RegistryError BLOB_UPLOAD_UNKNOWN."""
    if not _UPLOAD.fullmatch(id):
        raise RegistryError("BLOB_UPLOAD_UNKNOWN")
    return id
