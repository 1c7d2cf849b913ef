"""Images into an archive that Docker of any age, podman and skopeo read: an OCI layout with Docker's manifest.json.

The layers are uncompressed, as in ``docker save``; times are zero and members sorted, so equal images give equal bytes.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from boxship.base.errors import NotFound, SystemFailure
from boxship.images import indexes, reference
from boxship.images.archives.exported import export
from boxship.images.archives.loading import IMAGE_NAME, REF_NAME
from boxship.images.catalog import find, find_variant
from boxship.images.layers import LayerStore
from boxship.images.model import IMAGE, LayerRow, NoSuchImage, decode_image
from boxship.spec.oci import Descriptor, Platform, digest_of, parse_config
from boxship.spec.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from boxship.store import ReadTransaction

_BLOCK = 512
_RECORD = 20 * _BLOCK
PIECE = 1024 * 1024


class Selected(NamedTuple):
    """One image to save."""

    id: str
    document: bytes  # configuration
    layers: Sequence[str]  # chain IDs, bottom first
    names: Sequence[str]  # normalised references that go into the archive
    origin: str = ""  # digest of the index that the names mean: all that is here of it goes along


def select(transaction: ReadTransaction, refs: Sequence[str], wanted: Platform | None = None) -> list[Selected]:
    """Return the images that ``refs`` mean, each once: a tag brings itself, a bare name all its tags, an id none.

    With ``wanted`` only the images for that platform.

    Raises InvalidReference, NotFound.
    """
    chosen: dict[tuple[str, str], list[str]] = {}  # by image and index
    for ref in refs:
        try:
            id = find(transaction, ref)
        except NoSuchImage:
            names = _tags_of(transaction, ref)
            if not names:
                raise NotFound(f"No such image: {ref}") from None
        else:
            names = _tags_of(transaction, ref) or {}
            if not names:
                own = indexes.nameless(transaction, id) if wanted is None else []
                chosen.setdefault((id, own[0] if own else ""), [])
        for name, holder in names.items():
            if wanted is not None:
                holder = find_variant(transaction, reference.parse(name).familiar, wanted)
            known = chosen.setdefault((holder, _index(transaction, name, wanted)), [])
            if name not in known:
                known.append(name)
        if not names and wanted is not None:
            find_variant(transaction, ref, wanted)
    selected = []
    for (id, index), listed in chosen.items():
        document = transaction.get(IMAGE, id)
        assert document is not None
        row = decode_image(document)
        selected.append(Selected(id, row.config.encode(), row.layers, listed, index))
    return selected


def _index(transaction: ReadTransaction, name: str, wanted: Platform | None) -> str:
    found = indexes.named(transaction, name) if wanted is None else None
    return "" if found is None else found[0]


def write(layers: LayerStore, images: Sequence[Selected]) -> Iterator[bytes]:
    """Yield the archive in pieces of about a mebibyte. Blocks. Raises BlobCorrupted when a layer was damaged on disk."""
    rows: dict[str, LayerRow] = {}
    kept: dict[str, int] = {}  # blobs that go as they are, with their sizes
    documents: dict[str, bytes] = {}  # blobs that are made here
    manifests, index = [], []
    plain: dict[str, LayerRow] = {}  # layers that go uncompressed, by diff ID
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        rows |= {chain_id: _row(layers, chain_id) for chain_id in image.layers if chain_id not in rows}
        stack = [rows[chain_id] for chain_id in image.layers]
        whole = export(layers, image.origin) if image.origin else None
        if whole is not None and image.id in whole.layers:
            documents |= whole.documents
            kept |= whole.blobs
            index += _named_entries(image, msgspec.to_builtins(whole.descriptor))
            manifests.append(_archive_item(image, stack, whole.layers[image.id]))
        else:
            layers_of = [Descriptor(media_type=OCI_LAYER, digest=row.diff_id, size=row.tar_size) for row in stack]
            manifest = _manifest(image, stack)
            documents[digest_of(image.document)] = image.document
            documents[digest_of(manifest)] = manifest
            plain |= {row.diff_id: row for row in stack}
            index += _index_entries(image, manifest)
            manifests.append(_archive_item(image, stack, layers_of))
        for name in image.names:
            parsed = reference.parse(name)
            top = stack[-1].diff_id if stack else image.id
            repositories.setdefault(parsed.familiar_name, {})[parsed.tag or ""] = top.partition(":")[2]
    sizes = {digest: len(data) for digest, data in documents.items()}
    sizes |= {diff_id: row.tar_size for diff_id, row in plain.items()} | kept
    pieces = _archive(sizes, documents, plain, layers, index, manifests, repositories)
    return _gathered(pieces)


def _archive(
    sizes: dict[str, int],
    documents: dict[str, bytes],
    rows: dict[str, LayerRow],
    layers: LayerStore,
    index: list[dict[str, Any]],
    manifests: list[dict[str, Any]],
    repositories: dict[str, Any],
) -> Iterator[bytes]:
    yield _header("blobs/", 0, directory=True)
    yield _header("blobs/sha256/", 0, directory=True)
    for digest in sorted(sizes):
        yield _header(_path(digest), sizes[digest])
        if digest in documents:
            yield documents[digest]
        elif digest in rows:
            yield from layers.tar(rows[digest])
        else:
            yield from layers.content.chunks(digest)
        yield bytes(-sizes[digest] % _BLOCK)
    top = {
        "index.json": {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index},
        "manifest.json": manifests,
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
    }
    if repositories:
        top["repositories"] = repositories
    total = 2 * _BLOCK + sum(_BLOCK + size + -size % _BLOCK for size in sizes.values())
    for name, document in top.items():
        data = _encode(document)
        member = _header(name, len(data)) + data + bytes(-len(data) % _BLOCK)
        total += len(member)
        yield member
    yield bytes(2 * _BLOCK + -(total + 2 * _BLOCK) % _RECORD)


def _manifest(image: Selected, stack: Sequence[LayerRow]) -> bytes:
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": image.id, "size": len(image.document)},
            "layers": [{"mediaType": OCI_LAYER, "digest": row.diff_id, "size": row.tar_size} for row in stack],
        }
    )


def _index_entries(image: Selected, manifest: bytes) -> list[dict[str, Any]]:
    config = parse_config(image.document)
    entry: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
    if config.architecture and config.os:
        entry["platform"] = {"architecture": config.architecture, "os": config.os}
        if config.variant:
            entry["platform"]["variant"] = config.variant
    return _named_entries(image, entry)


def _named_entries(image: Selected, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the descriptor once for each name that it gets."""
    if not image.names:
        return [entry]
    return [{**entry, "annotations": {IMAGE_NAME: name, REF_NAME: reference.parse(name).tag}} for name in image.names]


def _archive_item(image: Selected, stack: Sequence[LayerRow], layers: Sequence[Descriptor]) -> dict[str, Any]:
    return {
        "Config": _path(image.id),
        "RepoTags": [reference.parse(name).familiar for name in image.names] or None,
        "Layers": [_path(layer.digest) for layer in layers],
        "LayerSources": {
            row.diff_id: {"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest}
            for row, layer in zip(stack, layers, strict=True)
        },
    }


def _tags_of(transaction: ReadTransaction, ref: str) -> dict[str, str]:
    """Return name -> id of what a reference names: itself if it has a tag, else all tags of the repository."""
    if reference.is_id(ref):
        return {}
    parsed = reference.parse(ref)
    if parsed.digest:
        return {}
    if parsed.tag:
        name = str(parsed)
        holder = transaction.lookup(IMAGE, name)
        return {} if holder is None else {name: holder}
    tags = {name: id for name, id in transaction.names(IMAGE).items() if "@" not in name}
    return {name: id for name, id in tags.items() if reference.parse(name).name == parsed.name}


def _row(layers: LayerStore, chain_id: str) -> LayerRow:
    row = layers.get(chain_id)
    if row is None:
        raise SystemFailure(f"layer {chain_id} is missing in the store")
    return row


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o755 if directory else 0o644
    member.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return member.tobuf(tarfile.GNU_FORMAT)


def _encode(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces, so that each step costs the caller one turn."""
    waiting = bytearray()
    for piece in pieces:
        large = len(piece) >= PIECE // 4  # it goes on as it is, since copying costs as much as hashing
        if not large:
            waiting += piece
        if waiting and (large or len(waiting) >= PIECE):
            yield bytes(waiting)
            waiting.clear()
        if large:
            yield piece
    if waiting:
        yield bytes(waiting)
