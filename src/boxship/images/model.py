"""What an image is here, and the rows that say so.

An ``image`` row holds the configuration document verbatim (its digest is the image's id) and the chain IDs of its layers;
a ``layer`` row says which snapshot and which blob a chain ID stands for. A name of kind ``image`` is a normalised reference
with a tag, or with the digest of a manifest or index that it was pulled or pushed as. A row exists only when everything it points to is on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from boxship.base.errors import NotFound
from boxship.images.reference import is_id, parse
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.oci import ImageConfig, digest_of, parse_config

IMAGE = "image"  # kind of rows and of names
LAYER = "layer"
LAYER_USE = "layer-use"  # who else keeps layers, such as the build cache: rows that list chain IDs
RESERVED_LABELS = "io.boxship."  # labels that Boxship sets itself; an image from outside can't bring them


class NoSuchImage(NotFound):
    """No image has that reference, id or unique id prefix."""

    def __init__(self, ref: str) -> None:
        shown = ref if is_id(ref) else parse(ref).with_default_tag().familiar
        super().__init__(f"No such image: {shown}")
        self.ref = ref


class ImageUser(msgspec.Struct, frozen=True):
    """A container that was made from an image."""

    container_id: str
    image_id: str
    reference: str  # as the user typed it
    running: bool


class ImageRow(msgspec.Struct, frozen=True, kw_only=True):
    """The ``image`` row."""

    version: int = 1
    config: str  # the document, verbatim: UTF-8 was checked
    layers: tuple[str, ...]  # chain IDs, bottom first
    parent: str = ""  # id of the local image it was built from
    tagged_ns: int = 0  # last time a name was given
    added_ns: int = 0
    manifest: str = ""  # digest of the blob with the manifest that it was pulled or pushed with


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """The ``layer`` row of a chain ID."""

    version: int = 1
    diff_id: str
    parent: str  # chain ID of the layer below, "" at the bottom
    size: int  # bytes of file content, what history and image ls show
    tar_size: int  # bytes of the uncompressed tar
    blob: str  # digest of the compressed tar
    blob_size: int  # bytes
    compression: str  # "gzip", "zstd" or "" for none


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image as the engine sees it."""

    id: str
    image_config: ImageConfig
    config: ContainerConfig  # what containers inherit; reserved labels are gone
    document: bytes  # the configuration, verbatim
    diff_ids: Sequence[str]
    layers: Sequence[str]  # chain IDs, bottom first
    chain_id: str  # of the top layer, "" when there is none
    size: int  # bytes of all layers
    references: Sequence[str]  # familiar, with tag, sorted
    digests: Sequence[str]  # familiar, with the digest of a manifest or index, sorted
    parent: str
    tagged_ns: int
    added_ns: int

    @property
    def architecture(self) -> str:
        """Go's name of the processor."""
        return self.image_config.architecture

    @property
    def os(self) -> str:
        """Go's name of the system, ``linux`` when the image does not say."""
        return self.image_config.os or "linux"


decode_image = msgspec.json.Decoder(ImageRow).decode
decode_layer = msgspec.json.Decoder(LayerRow).decode
decode_use = msgspec.json.Decoder(tuple[str, ...]).decode  # a ``layer-use`` row
encode = msgspec.json.encode


def check_image(id: str, document: bytes) -> None:
    """Raise what makes a row useless: another format, or a configuration that is not the one of the id."""
    row = decode_image(document)
    if digest_of(row.config.encode()) != id:
        raise ValueError("its configuration is not the one that its id names")
    parse_config(row.config.encode())


def make_image(id: str, row: ImageRow, *, size: int, names: Sequence[str]) -> Image:
    """Return the image of a row; ``names`` are its normalised references, ``size`` the sum of its layers'."""
    document = row.config.encode()
    config = parse_config(document)
    return Image(
        id=id,
        image_config=config,
        config=_without_reserved(config.config or ContainerConfig()),
        document=document,
        diff_ids=tuple(config.diff_ids),
        layers=row.layers,
        chain_id=row.layers[-1] if row.layers else "",
        size=size,
        references=sorted(parse(name).familiar for name in names if "@" not in name),
        digests=sorted(parse(name).familiar for name in names if "@" in name),
        parent=row.parent,
        tagged_ns=row.tagged_ns,
        added_ns=row.added_ns,
    )


def _without_reserved(config: ContainerConfig) -> ContainerConfig:
    labels = config.labels
    if not labels or not any(name.startswith(RESERVED_LABELS) for name in labels):
        return config
    kept = {name: value for name, value in labels.items() if not name.startswith(RESERVED_LABELS)}
    return msgspec.structs.replace(config, labels=kept)
