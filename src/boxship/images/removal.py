"""What removing an image takes, decided from plain values in Docker's order and with Docker's refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from boxship.base.errors import Conflict
from boxship.base.ids import short
from boxship.images.model import IMAGE, ImageUser, decode_image
from boxship.store import ReadTransaction


class Known(NamedTuple):
    """One image as far as removal is concerned."""

    names: Sequence[str]  # normalised references
    parent: str  # id of the local parent image, or ""


class Step(NamedTuple):
    """Take one name away, or delete the image (after its names)."""

    id: str
    name: str | None  # None: delete


def known(transaction: ReadTransaction) -> dict[str, Known]:
    """Return all images by id."""
    names: dict[str, list[str]] = {}
    for name, id in transaction.names(IMAGE).items():
        names.setdefault(id, []).append(name)
    return {id: Known(names.get(id, ()), decode_image(row).parent) for id, row in transaction.list(IMAGE)}


def plan(
    ref: str,
    id: str,
    name: str | None,
    images: Mapping[str, Known],
    users: Sequence[ImageUser],
    *,
    force: bool,
    prune: bool,
) -> list[Step]:
    """Return the steps that ``rmi ref`` takes; ``name`` is the name that was typed, None when it was an id.

    ``prune`` goes on with parents that nothing uses. Raises Conflict in Docker's words; then nothing must be done.
    """
    names = images[id].names
    steps: list[Step] = []
    if name is not None:
        user = next((user for user in users if user.image_id == id), None)
        if not force and len(names) <= 1 and user is not None:
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - '
                f"container {short(user.container_id)} is using its referenced image {short(id)}"
            )
        steps.append(Step(id, name))
        names = [other for other in names if other != name]
        if names:
            return steps
    elif len(names) <= 1:
        _refuse(id, images, users, force=force, referenced=False)
        steps += [Step(id, other) for other in names]
        names = []
    return steps + _deletions(id, names, images, users, force=force, prune=prune, quiet=name is not None)


def _deletions(
    id: str,
    names: Sequence[str],
    images: Mapping[str, Known],
    users: Sequence[ImageUser],
    *,
    force: bool,
    prune: bool,
    quiet: bool,
) -> list[Step]:
    """Return the steps that delete the image with its last ``names``, and unused parents after it.

    ``quiet``: an image that must stay is no error, since taking its name away was what was asked for.
    """
    try:
        _refuse(id, images, users, force=force, referenced=bool(names))
    except Conflict:
        if quiet:
            return []
        raise
    steps = [*(Step(id, name) for name in names), Step(id, None)]
    parent = images[id].parent
    if prune and parent in images and not images[parent].names:
        rest = {other: known for other, known in images.items() if other != id}
        steps += _deletions(parent, (), rest, users, force=False, prune=True, quiet=True)
    return steps


def _refuse(id: str, images: Mapping[str, Known], users: Sequence[ImageUser], *, force: bool, referenced: bool) -> None:
    """Raise the first reason not to delete the image; ``referenced``: it would still have names."""

    def conflict(message: str, *, hard: bool) -> Conflict:
        can = "cannot be forced" if hard else "must be forced"
        return Conflict(f"conflict: unable to delete {short(id)} ({can}) - {message}")

    if any(known.parent == id for known in images.values()):
        raise conflict("image has dependent child images", hard=True)
    mine = [user for user in users if user.image_id == id]
    for user in mine:
        if user.running:
            raise conflict(f"image is being used by running container {short(user.container_id)}", hard=True)
    if force:
        return
    if referenced:
        raise conflict("image is referenced in multiple repositories", hard=False)
    for user in mine:
        raise conflict(f"image is being used by stopped container {short(user.container_id)}", hard=False)
