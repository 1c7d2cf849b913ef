"""Images out of an archive: Docker's own format, an OCI image layout, or what Docker wrote before 1.10."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from boxship.base.errors import InvalidInput
from boxship.images import platform, reference
from boxship.images.archives import legacy
from boxship.images.archives.spool import Arrive, Spool
from boxship.images.indexes import ATTESTED, Member, Origin, alone
from boxship.images.layers import LEASE, Addition, Arrival, InvalidLayer, LayerStore, NewImage, failures, next_chain_id
from boxship.images.progress import Meter
from boxship.images.transfers.feed import Report
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


def load(
    layers: LayerStore, source: Readable, report: Report | None, directory: str, wanted: Platform | None = None
) -> Outcome:
    """Store all images of the archive, or none. Blocks.

    ``report`` takes progress messages, None is quiet; ``directory`` is where the archive waits; only images for ``wanted``
    are stored, beside those of other platforms, or every one of an index with ALL. Raises InvalidInput and its kin for a bad archive, SystemFailure for a full disk.
    """
    with layers.addition() as addition:
        with Spool[Arrival](directory) as spool:
            with failures():
                spool.fill(source, _arrivals(layers, addition, report))
            loader = _Loader(addition, spool, report, wanted)
            images = loader.images()
            for descriptor in loader.kept.values():
                layers.content.add(loader.document(descriptor), descriptor.media_type, lease=LEASE)
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
        return addition.arrive(content, size, observe=_observer(report, size, name))

    return arrive


def _observer(report: Report | None, size: int, id: str) -> Callable[[int], None] | None:
    """Return what shows how much of a layer was read; its ``id`` in progress messages is part of a digest or a name."""
    if report is None:
        return None
    id = id.removeprefix("blobs/sha256/")[:12]
    return Meter(report, "Loading layer", size, id if _HEX.issuperset(id) else "").at


class _Loader:
    def __init__(
        self, addition: Addition, spool: Spool[Arrival], report: Report | None, wanted: Platform | None
    ) -> None:
        self._addition = addition
        self._spool = spool
        self._report = report
        self._wanted = wanted
        self.kept: dict[str, Descriptor] = {}  # documents that are kept for indexes

    def images(self) -> list[NewImage]:
        """Unpack the layers of every image and return the images."""
        by_index = self._wanted is not None and "index.json" in self._spool
        if "manifest.json" in self._spool and not by_index:
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
            if not self._is_wanted(config):
                continue
            paths = item.layers or []
            self._check_count(config, len(paths))
            chain = self._stack(config, [(path, None) for path in paths])
            found.append(NewImage(document, chain, [_tagged(name) for name in item.repo_tags or ()]))
        origins = self._attested() if "index.json" in self._spool else {}
        return [image._replace(origin=origins.get(digest_of(image.document))) for image in found]

    def _attested(self) -> dict[str, Origin]:
        """Return the indexes of one image and what is attested about it that the archive has too, by the image's id."""
        try:
            layout = parse_manifest(self._spool.document("index.json"))
            found = {}
            for descriptor in layout.manifests if isinstance(layout, Index) else ():
                index = parse_manifest(self.document(descriptor)) if self._has_blob(descriptor) else None
                one = alone(index) if isinstance(index, Index) else None
                manifest = parse_manifest(self.document(one)) if one is not None and self._has_blob(one) else None
                if isinstance(index, Index) and one is not None and isinstance(manifest, Manifest):
                    found[manifest.config.digest] = self._origin(manifest.config.digest, descriptor, index, one)
        except InvalidInput:
            return {}  # what older engines never look at must not keep an image out
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
            for image in self._images(descriptor, _NESTING):
                id = digest_of(image.document)
                names = [*_names(descriptor), *(found[id].names if id in found else ())]
                found[id] = image._replace(names=names)
        return list(found.values())

    def _images(self, descriptor: Descriptor, nesting: int, *, chosen: bool = False) -> list[NewImage]:
        """Return the images that the descriptor leads to: one, or several of an index with ALL, or none.

        ``chosen``: an index says that it is for the platform that is wanted.
        """
        if nesting == 0:
            raise InvalidDocument(f"invalid index: indexes are nested more than {_NESTING} levels deep")
        if descriptor.platform is not None and descriptor.platform.os == "unknown":
            return []  # an attestation beside an image
        if not self._has(descriptor):
            return []  # an archive may leave out platforms that its index names
        manifest = parse_manifest(self.document(descriptor), descriptor.media_type)
        if isinstance(manifest, Index):
            if self._wanted == platform.ALL:
                members = list(manifest.manifests)
            else:
                one = platform.choose(manifest.manifests, self._wanted or platform.host())
                members = [] if one is None else [one]
            images = []
            for below in members:
                images += [
                    self._beside(image, descriptor, manifest, below)
                    for image in self._images(below, nesting - 1, chosen=below.platform is not None)
                ]
            return images
        if manifest.config.media_type not in CONFIGS:
            return []  # an artifact that is no image
        image = self._from_manifest(manifest, checked=chosen)
        return [] if image is None else [image]

    def _has(self, descriptor: Descriptor) -> bool:
        return descriptor.platform is None or self._has_blob(descriptor)

    def _has_blob(self, descriptor: Descriptor) -> bool:
        return _blob_path(descriptor) in self._spool

    def _beside(self, image: NewImage, descriptor: Descriptor, index: Index, chosen: Descriptor) -> NewImage:
        """Return the image as a member of the index, if a platform was asked for or it is alone there.

        The documents for it are kept.
        """
        if image.origin is not None or (self._wanted is None and alone(index) != chosen):
            return image
        return image._replace(origin=self._origin(digest_of(image.document), descriptor, index, chosen))

    def _origin(self, image: str, descriptor: Descriptor, index: Index, chosen: Descriptor) -> Origin:
        """Keep the documents of one image of an index."""
        self.kept |= {descriptor.digest: descriptor, chosen.digest: chosen}
        member = Member(manifest=chosen.digest, image=image, platform=chosen.platform or Platform())
        attestations = [
            found
            for one in index.manifests
            if (one.annotations or {}).get(ATTESTED) == chosen.digest and self._has_blob(one)
            for found in self._attestation(one)
        ]
        return Origin(descriptor.digest, index.manifests, [member, *attestations])

    def _attestation(self, descriptor: Descriptor) -> list[Member]:
        """Keep a small attestation's documents; return it as a member, or nothing when it is not whole or large."""
        manifest = parse_manifest(self.document(descriptor), descriptor.media_type)
        if not isinstance(manifest, Manifest):
            return []
        blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        large = sum(blob.size for blob in blobs.values()) > DOCUMENT_LIMIT
        if large or not all(_blob_path(blob) in self._spool for blob in blobs.values()):
            return []
        self.kept |= {descriptor.digest: descriptor, **blobs}
        return [Member(manifest=descriptor.digest, blobs=tuple(blobs))]

    def _is_wanted(self, config: ImageConfig) -> bool:
        if self._wanted is None or self._wanted == platform.ALL:
            return True
        return platform.fits(config, self._wanted)

    def _from_manifest(self, manifest: Manifest, *, checked: bool) -> NewImage | None:
        """Return the image; None when it is for another platform, unless an index was ``checked`` for that."""
        document = self.document(manifest.config)
        config = parse_config(document)
        if not checked and not self._is_wanted(config):
            return None
        self._check_count(config, len(manifest.layers))
        for descriptor in manifest.layers:
            if descriptor.media_type not in LAYERS:
                raise InvalidDocument(f"invalid manifest: unexpected layer media type {descriptor.media_type!r}")
        chain = self._stack(config, [(_blob_path(descriptor), descriptor) for descriptor in manifest.layers])
        return NewImage(document, chain, ())

    def document(self, descriptor: Descriptor) -> bytes:
        """Return a small blob of a layout, verified."""
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
