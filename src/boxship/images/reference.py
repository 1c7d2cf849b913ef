"""References: ``[host[:port]/]path[:tag][@digest]`` as people type them, and their full form.

The grammar is that of Docker's reference package: a name without a host means Docker Hub, a single path component there
means ``library/``. *Normalised* is the full form (``docker.io/library/nginx:latest``), *familiar* the short one
(``nginx:latest``). Cheap to import; no I/O.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from boxship.base.errors import InvalidInput

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255  # characters of domain and path
_LENGTH_LIMIT = 4096  # no valid reference is longer; bounds the work on hostile ones

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_NAME = rf"({_DOMAIN})/({_COMPONENT}(?:/{_COMPONENT})*)"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"{_NAME}(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_TAG_ONLY = re.compile(_TAG, re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}", re.ASCII)
_SHA = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}", re.ASCII)
_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}


class InvalidReference(InvalidInput):
    """The text is no reference."""


class Reference(NamedTuple):
    """A parsed reference; ``tag`` and ``digest`` are None when they were not given."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Domain and path."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: without Docker Hub's domain and without ``library/`` there."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix("library/")
        return self.path if "/" in rest else rest

    @property
    def familiar(self) -> str:
        """The whole reference as people write it."""
        return self.familiar_name + self._suffix

    def __str__(self) -> str:
        return self.name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_default_tag(self) -> Reference:
        """Return it with the tag ``latest`` when it has neither tag nor digest."""
        return self if self.tag or self.digest else self._replace(tag=DEFAULT_TAG)


def parse(text: str) -> Reference:
    """Return the reference that a person means by ``text``. Raises InvalidReference in Docker's words."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    if len(text) > _LENGTH_LIMIT:
        raise InvalidReference("invalid reference format")
    domain, remainder = _split_domain(text)
    path = remainder.partition(":")[0]
    if path.lower() != path:
        raise InvalidReference(f"invalid reference format: repository name ({path}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidReference("invalid reference format")
    found = Reference(*match.groups())
    if len(found.name) > NAME_LIMIT:
        raise InvalidReference(f"repository name must not be more than {NAME_LIMIT} characters")
    if found.digest is not None:
        _check_digest(found.digest)
    return found


def parse_tagged(repository: str, tag: str) -> Reference:
    """Return the reference of the API's ``repo`` and ``tag`` parameters, with the tag ``latest`` when neither has one.

    Raises InvalidReference, also for a digest: an image can't be given one.
    """
    reference = parse(repository)
    if reference.digest is not None:
        raise InvalidReference("refusing to create a tag with a digest reference")
    if tag:
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidReference("invalid tag format")
        reference = reference._replace(tag=tag)
    return reference.with_default_tag()


def is_id(text: str) -> bool:
    """Return whether ``text`` is a whole image id, with or without its algorithm; such a text is never a name."""
    return bool(_IDENTIFIER.fullmatch(text) or _SHA.fullmatch(text))


def _split_domain(text: str) -> tuple[str, str]:
    head, slash, rest = text.partition("/")
    looks_like_host = "." in head or ":" in head or head == "localhost" or head.lower() != head
    if slash and looks_like_host:
        domain, remainder = head, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder


def _check_digest(digest: str) -> None:
    algorithm, _, encoded = digest.partition(":")
    if algorithm not in _HEX_LENGTH:
        raise InvalidReference("unsupported digest algorithm")
    if len(encoded) != _HEX_LENGTH[algorithm]:
        raise InvalidReference("invalid checksum digest length")
    if not _SHA.fullmatch(digest):
        raise InvalidReference("invalid checksum digest format")
