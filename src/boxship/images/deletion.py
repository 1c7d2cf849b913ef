"""Names and images away: the plan of ``images.removal`` carried out, in one transaction, and the files after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from boxship.base.errors import Conflict
from boxship.base.ids import short
from boxship.images import indexes, reference, removal
from boxship.images.catalog import Catalog, find, find_variant, means_id, stored_name
from boxship.images.layers import LayerStore
from boxship.images.model import IMAGE, ImageUser
from boxship.images.removal import Step
from boxship.spec.docker.image import DeleteItem
from boxship.spec.oci import Platform
from boxship.store import Transaction

Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publish an event: object type, action, id, attributes."""


class Deletion:
    """Removes images of ``layers``; whoever calls it does so one at a time."""

    def __init__(
        self, layers: LayerStore, catalog: Catalog, *, emit: Emit, users: Callable[[], Iterable[ImageUser]]
    ) -> None:
        self._layers = layers
        self._catalog = catalog
        self._emit = emit
        self._users = users

    async def remove(self, ref: str, *, force: bool, prune: bool) -> list[DeleteItem]:
        """Take a name away, or delete the image with its last one. Raises NoSuchImage, Conflict."""
        users = list(self._users())

        def change(transaction: Transaction) -> Sequence[Step]:
            id = find(transaction, ref)
            name = None if means_id(ref, id) else str(stored_name(ref))
            steps = removal.plan(ref, id, name, removal.known(transaction), users, force=force, prune=prune)
            beside: list[str] = []
            for step in steps:
                if step.name is not None:
                    transaction.release(IMAGE, step.name)
                    beside += indexes.forget(transaction, step.name)
                else:
                    transaction.delete(IMAGE, step.id)
                    indexes.drop_image(transaction, step.id)
            return [*steps, *_delete_free(transaction, beside, users)]

        return await self._carry_out(change)

    async def remove_variants(self, ref: str, wanted: Sequence[Platform], *, force: bool) -> list[DeleteItem]:
        """Delete only the images for these platforms under the name; with the last one the name goes.

        Raises NoSuchImage, NotFound when there is none for such a platform, Conflict.
        """
        items: list[DeleteItem] = []
        for platform in wanted:
            with self._layers.store.read() as transaction:
                id = find_variant(transaction, ref, platform)
                index = None if means_id(ref, id) else indexes.named(transaction, str(stored_name(ref)))
            if index is None or all(member.image == id for member in index[1].images):
                items += await self.remove(ref, force=force, prune=True)
            else:
                items += await self._remove_beside(id, force=force)
        return items

    async def _remove_beside(self, id: str, *, force: bool) -> list[DeleteItem]:
        """Delete one image of several; names that meant it mean another one of their index."""
        users = list(self._users())

        def change(transaction: Transaction) -> Sequence[Step]:
            heirs = {name: indexes.heir(transaction, name, id) for name in transaction.names_of(IMAGE, id)}
            known = removal.known(transaction)
            known[id] = known[id]._replace(names=[name for name, heir in heirs.items() if heir is None])
            if known[id].names:
                raise Conflict(
                    f"conflict: unable to delete {short(id)} (cannot be forced) - "
                    f"image is referenced by {reference.parse(known[id].names[0]).familiar}"
                )
            steps = removal.plan(id, id, None, known, users, force=force, prune=False)
            for name, heir in heirs.items():
                assert heir is not None
                transaction.release(IMAGE, name)
                transaction.claim(IMAGE, name, heir)
            transaction.delete(IMAGE, id)
            indexes.drop_image(transaction, id)
            return steps

        return await self._carry_out(change)

    async def _carry_out(self, change: Callable[[Transaction], Sequence[Step]]) -> list[DeleteItem]:
        """Change the rows, then remove the layers that nothing uses any more and tell what happened."""
        images = {image.id: image for image in await asyncio.to_thread(self._catalog.all)}
        steps = await self._layers.store.write(change)
        deleted = [images[step.id] for step in steps if step.name is None and step.id in images]
        dropped = await asyncio.to_thread(self._layers.drop, {layer for image in deleted for layer in image.layers})
        items = []
        for step in steps:
            labels = images[step.id].config.labels if step.id in images else None
            action = "delete" if step.name is None else "untag"
            self._emit("image", action, step.id, {**(labels or {}), "name": step.id})
            if step.name is None:
                items.append(DeleteItem(deleted=step.id))
            else:
                items.append(DeleteItem(untagged=reference.parse(step.name).familiar))
        return items + [DeleteItem(deleted=chain_id) for chain_id in dropped]


def _delete_free(transaction: Transaction, ids: Sequence[str], users: Sequence[ImageUser]) -> list[Step]:
    """Delete those images of a forgotten index that have no other name and no container; return these steps."""
    kept = indexes.names_of_variants(transaction).keys() | {user.image_id for user in users}
    free = [id for id in ids if id not in kept and not transaction.names_of(IMAGE, id)]
    return [Step(id, None) for id in free if transaction.delete(IMAGE, id)]
