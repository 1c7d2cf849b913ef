"""Images as the API shows them: inspect, history, the rows of a listing (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boxship.base import clock
from boxship.images import filters as image_filters
from boxship.images.model import Image
from boxship.spec.docker.container import GraphDriver
from boxship.spec.docker.image import HistoryItem, ImageInspect, ImageMetadata, ImageSummary, RootFS

MISSING = "<missing>"


def inspect(image: Image, driver: GraphDriver) -> ImageInspect:
    """Return the answer of GET /images/{name}/json."""
    document = image.image_config
    comment = document.comment
    if not comment and document.history:
        comment = document.history[-1].comment or ""
    return ImageInspect(
        id=image.id,
        repo_tags=list(image.references),
        repo_digests=list(image.digests),
        parent=image.parent,
        comment=comment,
        created=document.created or "",
        docker_version=document.docker_version,
        author=document.author,
        config=image.config,
        architecture=image.architecture,
        os=image.os,
        size=image.size,
        graph_driver=driver,
        root_fs=RootFS(layers=list(image.diff_ids) or None),
        metadata=ImageMetadata(last_tag_time=clock.rfc3339(image.tagged_ns)),
        **{name: value for name in ("variant", "os_version") if (value := getattr(document, name))},
    )


def history(image: Image, sizes: Sequence[int], parent: Callable[[str], Image | None]) -> list[HistoryItem]:
    """Return the rows of GET /images/{name}/history, newest first; ``sizes`` are the layers', bottom first.

    ``parent`` finds the local image that one was built from: its id stands in the row where it was the top.
    """
    left = list(sizes)
    items = []
    for entry in image.image_config.history or ():
        size = 0 if entry.empty_layer or not left else left.pop(0)
        items.append((entry, size))
    items.reverse()
    answer: list[HistoryItem] = []
    current: Image | None = image
    for entry, size in items:
        answer.append(
            HistoryItem(
                id=current.id if current is not None else MISSING,
                created=image_filters.seconds_of(entry.created),
                created_by=entry.created_by or "",
                tags=list(current.references) or None if current is not None else None,
                size=size,
                comment=entry.comment or "",
            )
        )
        if current is not None:
            current = parent(current.parent) if current.parent else None
    return answer


def summary(image: Image, *, shared_size: int, containers: int) -> ImageSummary:
    """Return one row of GET /images/json; -1 is "not counted"."""
    return ImageSummary(
        id=image.id,
        parent_id=image.parent,
        repo_tags=list(image.references),
        repo_digests=list(image.digests),
        created=image_filters.seconds_of(image.image_config.created),
        size=image.size,
        shared_size=shared_size,
        labels=image.config.labels,
        containers=containers,
    )
