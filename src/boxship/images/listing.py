"""Which images ``image ls`` shows and ``image prune`` takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from boxship.images import describe, filters
from boxship.images.catalog import Catalog
from boxship.images.filters import Filters
from boxship.images.indexes import IndexRow
from boxship.images.manifests import Manifests
from boxship.images.model import Image, ImageUser
from boxship.images.reference import parse
from boxship.spec.docker.image import ImageSummary

_Shown = Callable[[Image], Image | None]
"""Give an image as it is listed, None when it is not."""


def rows(
    catalog: Catalog,
    users: Iterable[ImageUser],
    given: Filters,
    manifests: Manifests,
    *,
    all: bool,
    shared_size: bool,
    with_manifests: bool,
) -> list[ImageSummary]:
    """Return the rows of a listing, newest first; ``all`` shows the steps of builds too. Raises InvalidInput, NotFound.

    ``shared_size`` counts what images have in common, and their containers. Images of several platforms under one name
    are one row, ``with_manifests`` tells each.
    """
    filters.check_keys(given, filters.LIST_KEYS)
    images = catalog.all()
    parents = {image.parent for image in images}
    dangling = filters.dangling(given)
    shown = _shown(catalog, given)
    shared = _shared_sizes(catalog, images) if shared_size else {}
    used = Counter(user.image_id for user in users)
    found = []
    indexes = catalog.indexes()
    variants = _variants(indexes)
    for image in images:
        if image.id in variants and not (image.references or image.digests):
            continue  # it is in the row of the image that has the name
        if not image.references and image.id in parents and (dangling or not all):
            continue  # a step of a build, which dangles for nobody
        if dangling is not None and dangling != (not image.references):
            continue
        listed = shown(image)
        if listed is not None:
            containers = used[image.id] if shared_size else -1
            row = describe.summary(listed, shared_size=shared.get(image.id, -1), containers=containers)
            found.append(_with_manifests(row, image, indexes, manifests, wanted=with_manifests))
    return found


def prunable(catalog: Catalog, users: Iterable[ImageUser], given: Filters) -> list[Sequence[str]]:
    """Return, for each image that a prune takes, the references to remove, or its id when it has none.

    Raises InvalidInput for a filter that is not known.
    """
    filters.check_keys(given, filters.PRUNE_KEYS)
    only_dangling = filters.dangling(given) is not False
    until = _until(given)
    labels = filters.label_test(given)
    used = {user.image_id for user in users}
    images = catalog.all()
    parents = {image.parent for image in images}
    indexes = catalog.indexes()
    variants = _variants(indexes)
    for _, row in indexes.values():  # one platform in use keeps all under the name
        members = {member.image for member in row.images}
        if members & used:
            used |= members
    return [
        [*image.references, *image.digests] or [image.id]
        for image in images
        if image.id not in used | parents
        and (image.id not in variants or image.references or image.digests)
        and not (only_dangling and image.references)
        and labels(image)
        and (until is None or filters.seconds_of(image.image_config.created) < until)
    ]


def index_of(image: Image, indexes: Mapping[str, tuple[str, IndexRow]]) -> tuple[str, IndexRow] | None:
    """Return the index that the names of an image mean, with its digest; of several the first."""
    names = (str(parse(name)) for name in (*image.references, *image.digests))
    return next((indexes[name] for name in names if name in indexes), None)


def _variants(indexes: Mapping[str, tuple[str, IndexRow]]) -> set[str]:
    return {member.image for _, row in indexes.values() for member in row.images}


def _with_manifests(
    row: ImageSummary,
    image: Image,
    indexes: Mapping[str, tuple[str, IndexRow]],
    manifests: Manifests,
    *,
    wanted: bool,
) -> ImageSummary:
    found = index_of(image, indexes)
    if found is None:
        return msgspec.structs.replace(row, manifests=manifests.of_image(image)) if wanted else row
    digest, index = found
    row = msgspec.structs.replace(
        row, size=manifests.size(index), descriptor=manifests.descriptor(digest) or msgspec.UNSET
    )
    return msgspec.structs.replace(row, manifests=manifests.of_index(digest, index)) if wanted else row


def _until(given: Filters) -> float | None:
    return filters.until_seconds(given["until"], time.time()) if given.get("until") else None


def _shown(catalog: Catalog, given: Filters) -> _Shown:
    before = [_created(catalog.resolve(ref)) for ref in given.get("before", ())]
    since = [_created(catalog.resolve(ref)) for ref in given.get("since", ())]
    until = _until(given)
    labels = filters.label_test(given)
    patterns = given.get("reference", ())
    matches = filters.reference_test(patterns)

    def shown(image: Image) -> Image | None:
        created = _created(image)
        if any(created >= limit for limit in before) or any(created <= limit for limit in since):
            return None
        if (until is not None and filters.seconds_of(created) >= until) or not labels(image):
            return None
        if not patterns:
            return image
        matching = [familiar for familiar in image.references if matches(familiar)]
        return msgspec.structs.replace(image, references=matching) if matching else None

    return shown


def _created(image: Image) -> str:
    return image.image_config.created or ""


def _shared_sizes(catalog: Catalog, images: Sequence[Image]) -> dict[str, int]:
    count = Counter(chain_id for image in images for chain_id in image.layers)
    return {
        image.id: sum(
            size for chain_id, size in zip(image.layers, catalog.layer_sizes(image), strict=True) if count[chain_id] > 1
        )
        for image in images
    }
