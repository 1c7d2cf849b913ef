"""One package of an image, and its name in the language of package URLs (purl-spec)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

_LONGEST = 1024  # characters of any one value that a stranger's file gives


class Distribution(NamedTuple):
    """What os-release(5) says of the system."""

    id: str = ""
    version: str = ""
    name: str = ""  # for people


class Package(NamedTuple):
    """One installed package; ``source`` is the file of the image that says so, from the root without a slash."""

    type: str  # of the purl: deb, apk, pypi, npm, golang
    name: str
    version: str
    source: str
    namespace: str = ""
    architecture: str = ""
    distribution: str = ""
    license: str = ""  # as the package declares it
    supplier: str = ""  # "Name <address>"
    homepage: str = ""

    @property
    def purl(self) -> str:
        """The package URL."""
        parts = [part for part in self.namespace.split("/") if part]
        path = "/".join(quote(part, safe="") for part in (self.type, *parts, self.name))
        version = f"@{quote(self.version, safe=':+~')}" if self.version else ""
        qualifiers = [
            f"{key}={quote(value, safe=':')}"
            for key, value in (("arch", self.architecture), ("distro", self.distribution))
            if value
        ]
        return f"pkg:{path}{version}{'?' if qualifiers else ''}{'&'.join(qualifiers)}"


def plain(text: str) -> str:
    """Return a stranger's value as one short line of printable text."""
    kept = "".join(character if character.isprintable() else " " for character in text[: 2 * _LONGEST])
    return " ".join(kept.encode("utf-8", "replace").decode().split())[:_LONGEST]
