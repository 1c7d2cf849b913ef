"""Finding images: by reference, id or id prefix, and all of them with their names."""

from __future__ import annotations

from collections.abc import Sequence

from boxship.base.errors import NotFound
from boxship.images import indexes, reference
from boxship.images import platform as platforms
from boxship.images.indexes import IndexRow
from boxship.images.model import (
    IMAGE,
    LAYER,
    Image,
    NoSuchImage,
    decode_image,
    decode_layer,
    make_image,
)
from boxship.spec.oci import Platform, parse_config
from boxship.store import ReadTransaction, Store


class Catalog:
    """Reads images from the store; every answer is consistent in itself."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def resolve(self, ref: str, platform: Platform | None = None) -> Image:
        """Return the image that ``ref`` means: a name first, then an id or a unique prefix of one.

        With several platforms under the name, the one for ``platform`` if it is here. Raises InvalidReference, NoSuchImage.
        """
        with self._store.read() as transaction:
            id = find(transaction, ref)
            if platform is not None:
                id = variant(transaction, ref, id, platform) or id
            return self._image(transaction, id, transaction.names_of(IMAGE, id))

    def resolve_variant(self, ref: str, platform: Platform) -> Image:
        """Return the image that ``ref`` means for the platform. Raises NotFound when it is for others only."""
        with self._store.read() as transaction:
            id = find_variant(transaction, ref, platform)
            return self._image(transaction, id, transaction.names_of(IMAGE, id))

    def get(self, id: str) -> Image:
        """Return the image with exactly this id. Raises NoSuchImage."""
        with self._store.read() as transaction:
            if transaction.get(IMAGE, id) is None:
                raise NoSuchImage(id)
            return self._image(transaction, id, transaction.names_of(IMAGE, id))

    def all(self) -> list[Image]:
        """Return all images, the newest first."""
        with self._store.read() as transaction:
            names: dict[str, list[str]] = {}
            for name, id in transaction.names(IMAGE).items():
                names.setdefault(id, []).append(name)
            sizes = {chain_id: decode_layer(row).size for chain_id, row in transaction.list(LAYER)}
            images = [
                make_image(
                    id, row, size=sum(sizes.get(chain_id, 0) for chain_id in row.layers), names=names.get(id, ())
                )
                for id, row in ((id, decode_image(document)) for id, document in transaction.list(IMAGE))
            ]
        return sorted(images, key=lambda image: (image.image_config.created or "", image.added_ns), reverse=True)

    def indexes(self) -> dict[str, tuple[str, IndexRow]]:
        """Return the indexes that names mean, with their digests, by normalised reference."""
        with self._store.read() as transaction:
            rows = {digest: indexes.decode_index(document) for digest, document in transaction.list(indexes.INDEX)}
            names = transaction.names(indexes.INDEX)
        return {name: (digest, rows[digest]) for name, digest in names.items() if digest in rows}

    def layer_sizes(self, image: Image) -> Sequence[int]:
        """Return the bytes of each layer, bottom first."""
        with self._store.read() as transaction:
            return _sizes(transaction, image.layers)

    @staticmethod
    def _image(transaction: ReadTransaction, id: str, names: Sequence[str]) -> Image:
        document = transaction.get(IMAGE, id)
        assert document is not None
        row = decode_image(document)
        return make_image(id, row, size=sum(_sizes(transaction, row.layers)), names=names)


def find(transaction: ReadTransaction, ref: str) -> str:
    """Return the id of the image that ``ref`` means; see ``Catalog.resolve``."""
    if reference.is_id(ref):
        id = ref if ":" in ref else f"sha256:{ref}"
        if transaction.get(IMAGE, id) is None:
            raise NoSuchImage(ref)
        return id
    parsed = reference.parse(ref).with_default_tag()
    named = transaction.lookup(IMAGE, str(parsed._replace(tag=None) if parsed.digest else parsed))
    if named is None and parsed.digest is not None and transaction.get(IMAGE, parsed.digest) is not None:
        named = parsed.digest
    if named is not None:
        return named
    prefix = f"sha256:{ref.removeprefix('sha256:')}"
    matching = [id for id, _ in transaction.list(IMAGE) if id.startswith(prefix)]
    if len(matching) != 1 or len(prefix) == len("sha256:"):
        raise NoSuchImage(ref)
    return matching[0]


def find_variant(transaction: ReadTransaction, ref: str, platform: Platform) -> str:
    """Return the id of the image that ``ref`` means for the platform; see ``Catalog.resolve_variant``."""
    id = variant(transaction, ref, find(transaction, ref), platform)
    if id is None:
        raise NotFound(
            f"image with reference {ref} was found but does not provide the specified platform ({platforms.shown(platform)})"
        )
    return id


def variant(transaction: ReadTransaction, ref: str, id: str, platform: Platform) -> str | None:
    """Return the id of the image for the platform that ``ref``, which was resolved to ``id``, means; None: not here."""
    if not means_id(ref, id):
        known = indexes.named(transaction, str(stored_name(ref)))
        if known is not None:
            member = indexes.choose(known[1].members, platform)
            return None if member is None else member.image
    document = transaction.get(IMAGE, id)
    assert document is not None
    return id if platforms.fits(parse_config(decode_image(document).config.encode()), platform) else None


def stored_name(ref: str) -> reference.Reference:
    """Return the name that a person means by ``ref``, as the store has it."""
    parsed = reference.parse(ref).with_default_tag()
    return parsed._replace(tag=None) if parsed.digest else parsed


def means_id(ref: str, id: str) -> bool:
    """Return whether ``ref``, which was resolved to ``id``, was typed as (a prefix of) the id and not as a name."""
    return id.startswith(ref) or id.partition(":")[2].startswith(ref)


def _sizes(transaction: ReadTransaction, layers: Sequence[str]) -> list[int]:
    rows = (transaction.get(LAYER, chain_id) for chain_id in layers)
    return [0 if row is None else decode_layer(row).size for row in rows]
