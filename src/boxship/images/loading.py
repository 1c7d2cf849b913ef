"""Images out of an archive: Docker's own format, an OCI image layout, or what Docker wrote before 1.10."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from boxship.base.errors import InvalidInput
from boxship.images import legacy, platform, reference
from boxship.images.feed import Report
from boxship.images.layers import Addition, Arrival, InvalidLayer, LayerStore, NewImage, failures, next_chain_id
from boxship.images.progress import Meter
from boxship.images.spool import Arrive, Spool
from boxship.snapshots.tar_reader import Readable
from boxship.spec.oci import (
    DOCUMENT_LIMIT,
    Descriptor,
    ImageConfig,
    Index,
    InvalidDocument,
    Manifest,
    Platform,
    digest_of,
    parse_archive_manifest,
    parse_config,
    parse_layout,
    parse_manifest,
)
from boxship.spec.oci.manifest import CONFIGS, LAYERS

IMAGE_NAME = "io.containerd.image.name"  # annotations of a layout's index
REF_NAME = "org.opencontainers.image.ref.name"
_HEX = frozenset("0123456789abcdef")
_NESTING = 4  # indexes in indexes


class Loaded(NamedTuple):
    """One image of the archive."""

    id: str
    names: Sequence[str]  # normalised references


class Outcome(NamedTuple):
    """What a load did."""

    images: Sequence[Loaded]
    moved: dict[str, str]  # names that meant another image before, with its id


def load(layers: LayerStore, source: Readable, report: Report | None, directory: str, wanted: Platform) -> Outcome:
    """Store all images of the archive, or none. Blocks.

    ``report`` takes progress messages, None is quiet; ``directory`` is where the archive waits; ``wanted`` chooses among
    the platforms of an index. Raises InvalidInput and its kin for a bad archive, SystemFailure for a full disk.
    """
    with layers.addition() as addition:
        with Spool[Arrival](directory) as spool:
            with failures():
                spool.fill(source, _arrivals(layers, addition, report))
            images = _Loader(addition, spool, report, wanted).images()
        # The spool is gone by now: the commit writes out all that the disk has to, and that need not be.
        if not images:
            raise InvalidInput("no image for this platform was found in the archive")
        moved = addition.commit(images)
        return Outcome([Loaded(digest_of(image.document), image.names) for image in images], moved)


def _arrivals(layers: LayerStore, addition: Addition, report: Report | None) -> Arrive[Arrival] | None:
    """Return what unpacks the layers of an archive while it arrives.

    What is too large for a document is taken for a layer, unless one of that size is here: that may well be the same.
    """
    if not layers.snapshotter.adopts:
        return None
    known = layers.sizes()

    def arrive(name: str, size: int, content: Readable) -> Arrival | None:
        if size <= DOCUMENT_LIMIT or size in known or name.startswith("blobs/sha512/"):
            return None
        return addition.arrive(content, observe=_observer(report, size, name))

    return arrive


def _observer(report: Report | None, size: int, id: str) -> Callable[[int], None] | None:
    """Return what shows how much of a layer was read; its ``id`` in progress messages is part of a digest or a name."""
    if report is None:
        return None
    id = id.removeprefix("blobs/sha256/")[:12]
    return Meter(report, "Loading layer", size, id if _HEX.issuperset(id) else "").at


class _Loader:
    def __init__(self, addition: Addition, spool: Spool[Arrival], report: Report | None, wanted: Platform) -> None:
        self._addition = addition
        self._spool = spool
        self._report = report
        self._wanted = wanted

    def images(self) -> list[NewImage]:
        """Unpack the layers of every image and return the images."""
        if "manifest.json" in self._spool:
            return self._docker_archive()
        if "index.json" in self._spool:
            return self._layout()
        if "repositories" in self._spool:
            return legacy.images(self._spool, self._legacy_layer)
        raise InvalidInput("unrecognized image format: the archive has neither manifest.json nor index.json")

    # docker-archive

    def _docker_archive(self) -> list[NewImage]:
        found = []
        for item in parse_archive_manifest(self._spool.document("manifest.json")):
            document = self._spool.document(item.config)
            config = parse_config(document)
            paths = item.layers or []
            self._check_count(config, len(paths))
            chain = self._stack(config, [(path, None) for path in paths])
            found.append(NewImage(document, chain, [_tagged(name) for name in item.repo_tags or ()]))
        return found

    # OCI image layout

    def _layout(self) -> list[NewImage]:
        if "oci-layout" in self._spool:
            parse_layout(self._spool.document("oci-layout"))
        index = parse_manifest(self._spool.document("index.json"))
        if not isinstance(index, Index):
            raise InvalidDocument("invalid index.json: not an index")
        found: dict[str, NewImage] = {}
        for descriptor in index.manifests:
            image = self._image(descriptor, _NESTING)
            if image is None:
                continue
            id = digest_of(image.document)
            names = [*_names(descriptor), *(found[id].names if id in found else ())]
            found[id] = image._replace(names=names)
        return list(found.values())

    def _image(self, descriptor: Descriptor, nesting: int) -> NewImage | None:
        """Return the image that the descriptor leads to, None when it leads to something else."""
        if nesting == 0:
            raise InvalidDocument(f"invalid index: indexes are nested more than {_NESTING} levels deep")
        if descriptor.platform is not None and descriptor.platform.os == "unknown":
            return None  # an attestation beside an image
        path = _blob_path(descriptor)
        if path not in self._spool and descriptor.platform is not None:
            return None  # an archive may leave out platforms that its index names
        manifest = parse_manifest(self._document(descriptor), descriptor.media_type)
        if isinstance(manifest, Index):
            chosen = platform.choose(manifest.manifests, self._wanted)
            return None if chosen is None else self._image(chosen, nesting - 1)
        if manifest.config.media_type not in CONFIGS:
            return None  # an artifact that is no image
        return self._from_manifest(manifest)

    def _from_manifest(self, manifest: Manifest) -> NewImage:
        document = self._document(manifest.config)
        config = parse_config(document)
        self._check_count(config, len(manifest.layers))
        for descriptor in manifest.layers:
            if descriptor.media_type not in LAYERS:
                raise InvalidDocument(f"invalid manifest: unexpected layer media type {descriptor.media_type!r}")
        chain = self._stack(config, [(_blob_path(descriptor), descriptor) for descriptor in manifest.layers])
        return NewImage(document, chain, ())

    def _document(self, descriptor: Descriptor) -> bytes:
        path = _blob_path(descriptor)
        data = self._spool.document(path)
        if len(data) != descriptor.size:
            raise InvalidDocument(f"invalid {path}: {len(data)} bytes, its descriptor says {descriptor.size}")
        if not descriptor.digest.startswith("sha256:") or digest_of(data) != descriptor.digest:
            raise InvalidDocument(f"invalid {path}: it hashes to {digest_of(data)}")
        return data

    # layers

    def _stack(self, config: ImageConfig, sources: Sequence[tuple[str, Descriptor | None]]) -> list[str]:
        chain: list[str] = []
        for position, (diff_id, (path, blob)) in enumerate(zip(config.diff_ids, sources, strict=True)):
            parent = chain[-1] if chain else ""
            chain_id = next_chain_id(parent, diff_id)
            if not self._addition.reuse(chain_id):
                self._layer(path, parent, position, diff_id=diff_id, blob=blob)
            chain.append(chain_id)
        return chain

    def _layer(
        self, path: str, parent: str, position: int, *, diff_id: str = "", blob: Descriptor | None = None
    ) -> str:
        size = self._spool.size(path)
        if blob is not None and size != blob.size:
            raise InvalidLayer(f"invalid {path}: {size} bytes, its descriptor says {blob.size}")
        arrival = self._spool.arrived(path)
        if arrival is not None:
            return self._addition.place(arrival, parent, position=position, diff_id=diff_id, blob=blob)
        return self._addition.layer(
            self._spool.open(path),
            parent,
            position=position,
            diff_id=diff_id,
            blob=blob,
            observe=_observer(self._report, size, diff_id.removeprefix("sha256:")),
        )

    def _legacy_layer(self, path: str, parent: str) -> tuple[str, str]:
        chain_id = self._layer(path, parent, 0)
        return chain_id, self._addition.diff_id(chain_id)

    @staticmethod
    def _check_count(config: ImageConfig, count: int) -> None:
        expected = len(config.diff_ids)
        if expected != count:
            raise InvalidDocument(f"invalid manifest, layers length mismatch: expected {expected}, got {count}")


def _blob_path(descriptor: Descriptor) -> str:
    return "blobs/" + descriptor.digest.replace(":", "/", 1)


def _tagged(text: str) -> str:
    """Return a tag of ``manifest.json`` as a normalised reference."""
    found = reference.parse(text)
    if found.tag is None or found.digest is not None:
        raise InvalidInput(f'invalid tag "{text}"')
    return str(found)


def _names(descriptor: Descriptor) -> list[str]:
    """Return the name that a layout gives an image; a bare tag is none."""
    annotations = descriptor.annotations or {}
    text = annotations.get(IMAGE_NAME, "")
    if not text and (":" in annotations.get(REF_NAME, "") or "/" in annotations.get(REF_NAME, "")):
        text = annotations[REF_NAME]
    if not text:
        return []
    found = reference.parse(text)
    return [] if found.digest is not None else [str(found.with_default_tag())]
