"""``--cache-from`` and ``--cache-to``: what they say, and the directories of this side. Errors are buildx's.

NAME                                 an image: of the engine, or with a cache in its registry
type=registry,ref=NAME               a cache or an image in a registry
type=local,src=DIR | dest=DIR        a directory here, an OCI layout, sent to the engine and fetched from it
type=inline                          in the image itself (``--cache-to``)

``--cache-to`` also takes mode=min|max, image-manifest, oci-mediatypes, compression, ignore-error, mounts and mounts-limit.
"""

from __future__ import annotations

import os

from boxship.cli import csvfields
from boxship.cli.command import ExitError
from boxship.cli.flags import parse_bool
from boxship.cli.units import parse_size
from boxship.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from boxship.cli.building.packing import Part
    from boxship.cli.command import Session

    Fields = dict[str, str]

_SWITCHES = frozenset(("image-manifest", "oci-mediatypes", "ignore-error", "mounts"))
_CHOICES = {"mode": ("min", "max"), "compression": ("gzip", "zstd", "uncompressed")}
_EXPORT = ("mode", "image-manifest", "oci-mediatypes", "compression", "ignore-error", "mounts", "mounts-limit")
_EXPORTS = {"inline": (), "registry": ("ref", *_EXPORT), "local": ("dest", "tag", *_EXPORT)}
_IMPORTS = {"registry": ("ref",), "local": ("src", "tag", "digest")}


class Imports:
    """What ``--cache-from`` asks for: images by name, documents for the engine, and directories to be sent, by prefix."""

    __slots__ = ("directories", "documents", "names", "warnings")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.documents: list[dict[str, Any]] = []
        self.directories: dict[str, str] = {}
        self.warnings: list[str] = []


def parse_imports(items: Sequence[str]) -> Imports:
    """Return the sources. A directory that holds no cache yet is passed over with a warning. Raises ExitError."""
    found = Imports()
    for item in items:
        fields = _fields(item)
        if "type" not in fields:
            for name in item.split(","):
                found.names.append(name)
                found.documents.append({"type": "registry", "ref": name, "local-first": True})
            continue
        kind = _known(item, fields, _IMPORTS, "importer")
        if kind == "registry":
            found.documents.append({"type": kind, "ref": _needed(fields, "ref", "registry cache importer")})
            continue
        directory = _needed(fields, "src", "local cache importer")
        if not os.path.isfile(os.path.join(directory, "index.json")):
            found.warnings.append(f"local cache import at {directory} not found")
            continue
        prefix = f".boxship-cache-{os.urandom(10).hex()}"
        found.directories[prefix] = directory
        found.documents.append({"directory": prefix, **{key: fields[key] for key in fields if key != "src"}})
    return found


def parse_exports(items: Sequence[str]) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Return documents for the engine, and the directories of local exports by their number. Raises ExitError."""
    documents: list[dict[str, Any]] = []
    directories: dict[int, str] = {}
    for item in items:
        fields = _fields(item)
        if "type" not in fields:
            fields = {"type": "registry", "ref": item}
        kind = _known(item, fields, _EXPORTS, "exporter")
        if kind == "registry":
            _needed(fields, "ref", "registry cache exporter")
        elif kind == "local":
            directories[len(documents)] = _needed(fields, "dest", "local cache exporter")
        documents.append({key: _value(key, text) for key, text in fields.items() if key != "dest"})
        if not documents[-1].get("oci-mediatypes", True) and documents[-1].get("image-manifest", True):
            raise ExitError(
                "invalid configuration for remote cache: OCI mediatypes are required for image-manifest cache format"
            )
    return documents, directories


def part_of(directory: str, prefix: str) -> Part:
    """Return what is sent of a directory: the layout without what else lies there."""
    from boxship.cli.building.packing import Part
    from boxship.spec.docker.ignorefile import Patterns

    return Part(directory, Patterns.parse(b"*\n!oci-layout\n!index.json\n!blobs\n"), f"{prefix}/")


def write_cache(session: Session, ready: dict[str, Any], document: dict[str, Any], directory: str) -> None:
    """Fetch a cache that the engine has ready into a directory, beside what other tags of its index name.

    Blobs that nothing names any more go. Raises ExitError, ClientError.
    """
    from boxship.cli.building.outputs import unpack

    before = _index(directory)
    wanted = {"records": ready["records"], "mounts": ready.get("mounts", []), "export": document}
    reader = session.engine.stream(
        "POST",
        "/boxship/build/cache",
        body=jsontext.dumps(wanted).encode(),
        headers={"Content-Type": "application/json"},
    )
    unpack(reader, directory)
    new = _index(directory)
    tags = [_tag(each) for each in new]
    kept = [each for each in before if _tag(each) not in tags]
    if kept:
        _write_index(directory, [*kept, *new])
    gone = _named(directory, before) - _named(directory, [*kept, *new])
    for digest in gone:
        try:
            os.unlink(_path(directory, digest))
        except OSError:
            pass  # gone already, or not ours to remove


def _fields(item: str) -> Fields:
    try:
        parts = csvfields.split(item)
    except ValueError as exc:
        raise ExitError(f"failed to parse cache: {exc}") from exc
    if not any("=" in part for part in parts):
        return {}
    found: Fields = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise ExitError(f"invalid value {part}")
        found[key.strip().lower()] = value
    if "type" not in found:
        raise ExitError(f'type required form> "{item}"')
    return found


def _known(item: str, fields: Fields, known: dict[str, tuple[str, ...]], what: str) -> str:
    kind = fields["type"]
    if kind not in known:
        raise ExitError(f"could not parse cache {what}: unknown cache {what}: {kind!r}: there are {', '.join(known)}")
    for key in fields:
        if key != "type" and key not in known[kind]:
            raise ExitError(f"could not parse cache {what} {item}: {key} is not supported by type={kind}")
    return kind


def _needed(fields: Fields, key: str, what: str) -> str:
    if not fields.get(key):
        raise ExitError(f"{what} requires {key}")
    return fields[key]


def _value(key: str, text: str) -> object:
    if key in _SWITCHES:
        try:
            return parse_bool(text)
        except ValueError as exc:
            raise ExitError(f"failed to parse {key}: {exc}") from exc
    if key == "mounts-limit":
        try:
            return parse_size(text)
        except ValueError as exc:
            raise ExitError(f"failed to parse {key}: {exc}") from exc
    if key in _CHOICES and text not in _CHOICES[key]:
        raise ExitError(
            f"could not parse cache exporter: unsupported {key} {text!r}: there are {', '.join(_CHOICES[key])}"
        )
    return text


# layouts on this side


def _index(directory: str) -> list[dict[str, Any]]:
    return list(_document(os.path.join(directory, "index.json")).get("manifests") or [])


def _write_index(directory: str, manifests: list[dict[str, Any]]) -> None:
    path = os.path.join(directory, "index.json")
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(jsontext.dumps(document))
        os.rename(f"{path}.new", path)
    except OSError as exc:
        raise ExitError(f"failed to write {path}: {(exc.strerror or '').lower()}") from exc


def _tag(descriptor: dict[str, Any]) -> str:
    return str((descriptor.get("annotations") or {}).get("org.opencontainers.image.ref.name", ""))


def _named(directory: str, descriptors: Sequence[dict[str, Any]]) -> set[str]:
    """Return the digests of all that descriptors lead to."""
    found: set[str] = set()
    left = list(descriptors)
    while left:
        digest = str(left.pop().get("digest", ""))
        if digest and digest not in found:
            found.add(digest)
            document = _document(_path(directory, digest))
            config = document.get("config")
            left += [*(document.get("manifests") or []), *(document.get("layers") or []), *([config] if config else [])]
    return found


def _path(directory: str, digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    plain = algorithm.isalnum() and name.isalnum()
    return os.path.join(directory, "blobs", algorithm, name if plain else "-")


def _document(path: str) -> dict[str, Any]:
    """Return a small JSON object, an empty one for what is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(4 * 1024 * 1024 + 1)
        value = jsontext.loads(data) if data[:1] == b"{" and len(data) <= 4 * 1024 * 1024 else {}
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
