"""What package managers note about what they installed: from the bytes of their files to packages (pure).

The files come from strangers: what cannot be read gives no package, never an error. Sources: deb-control(5) and dpkg-query(1),
apk-package(5), "Core metadata specifications" of the Python packaging guide, npm's package.json(5), os-release(5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import msgspec

from boxship.build.attestations.packages import Distribution, Package, plain

_SEPARATORS = re.compile(r"[-_.]+")
_NPM_NAME = re.compile(r"(?:@[^/@\s]+/)?[^/@\s]+")


def distribution(text: bytes) -> Distribution:
    """Return what ``os-release`` says."""
    found: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                words = shlex.split(value)
            except ValueError:
                continue
            found[key] = plain(words[0]) if words else ""
    return Distribution(found.get("ID", ""), found.get("VERSION_ID", ""), found.get("PRETTY_NAME", ""))


def debian(text: bytes, source: str, system: Distribution) -> Iterator[Package]:
    """Yield the installed packages of dpkg's ``status``, or the one of a file of ``status.d``."""
    for fields in _stanzas(text):
        status = fields.get("Status", "install ok installed")
        if fields.get("Package") and status.rpartition(" ")[2] == "installed":
            yield Package(
                type="deb",
                namespace=system.id or "debian",
                name=fields["Package"],
                version=fields.get("Version", ""),
                architecture=fields.get("Architecture", ""),
                distribution=_shown(system),
                supplier=fields.get("Maintainer", ""),
                homepage=fields.get("Homepage", ""),
                source=source,
            )


def alpine(text: bytes, source: str, system: Distribution) -> Iterator[Package]:
    """Yield the packages of apk's ``installed``."""
    for fields in _stanzas(text):
        if fields.get("P"):
            yield Package(
                type="apk",
                namespace=system.id or "alpine",
                name=fields["P"],
                version=fields.get("V", ""),
                architecture=fields.get("A", ""),
                distribution=_shown(system),
                license=fields.get("L", ""),
                supplier=fields.get("m", ""),
                homepage=fields.get("U", ""),
                source=source,
            )


def python(text: bytes, source: str) -> Iterator[Package]:
    """Yield the distribution of a METADATA or PKG-INFO file: its header fields end at the first empty line."""
    fields = next(_stanzas(text), {})
    if fields.get("Name"):
        stated = fields.get("License-Expression") or fields.get("License", "")
        yield Package(
            type="pypi",
            name=_SEPARATORS.sub("-", fields["Name"]).lower(),
            version=fields.get("Version", ""),
            license="" if stated.upper() == "UNKNOWN" else stated,
            homepage=fields.get("Home-page", ""),
            source=source,
        )


def node(text: bytes, source: str) -> Iterator[Package]:
    """Yield the package of a ``package.json`` that has a name and a version."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return
    if not isinstance(document, dict):
        return
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not _NPM_NAME.fullmatch(name):
        return
    namespace, _, name = name.rpartition("/")
    yield Package(
        type="npm",
        namespace=plain(namespace),
        name=plain(name),
        version=plain(version),
        license=_npm_license(document.get("license", document.get("licenses"))),
        source=source,
    )


def _stanzas(text: bytes) -> Iterator[dict[str, str]]:
    """Yield the fields of each paragraph; of a field of several lines the first one."""
    fields: dict[str, str] = {}
    for line in text.split(b"\n"):
        shown = line.decode("utf-8", "replace")
        if not shown.strip():
            if fields:
                yield fields
                fields = {}
        elif not shown[0].isspace():
            key, colon, value = shown.partition(":")
            if colon:
                fields.setdefault(key, plain(value))
    if fields:
        yield fields


def _shown(system: Distribution) -> str:
    return "-".join(part for part in (system.id, system.version) if part)


def _npm_license(stated: object) -> str:
    """Return what package.json says, also in the older ways: an object, or a list of those."""
    if isinstance(stated, str):
        return plain(stated)
    if isinstance(stated, dict):
        return _npm_license(stated.get("type"))
    if isinstance(stated, list):
        return " OR ".join(one for one in map(_npm_license, stated[:8]) if one)
    return ""
