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
        if not force and is_single(names) and user is not None:
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - '
                f"container {short(user.container_id)} is using its referenced image {short(id)}"
            )
        steps.append(Step(id, name))
        names = [other for other in names if other != name]
        if "@" not in name:
            digests = _digests_alone(name, names)
            steps += [Step(id, digest) for digest in digests]
            names = [other for other in names if other not in digests]
        if names:
            return steps
    elif is_single(names):
        _refuse(id, images, users, force=force, referenced=False)
        steps += [Step(id, other) for other in names]
        names = []
    return steps + _deletions(id, names, images, users, force=force, prune=prune, quiet=name is not None)


def is_single(names: Sequence[str]) -> bool:
    """Return whether the names are one for a person: none or one, or one tag and digests of the same repository."""
    if len(names) <= 1:
        return True
    tags = [name for name in names if "@" not in name]
    repositories = {repository_of(name) for name in names}
    return len(tags) == 1 and len(repositories) == 1


def repository_of(name: str) -> str:
    """Return a normalised reference without its tag or digest."""
    if "@" in name:
        return name.partition("@")[0]
    return name.rpartition(":")[0]


def _digests_alone(removed: str, names: Sequence[str]) -> list[str]:
    """Return the digests of the removed tag's repository, if no other tag of it is left: they go with it."""
    repository = repository_of(removed)
    mine = [name for name in names if repository_of(name) == repository]
    return mine if all("@" in name for name in mine) else []


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
