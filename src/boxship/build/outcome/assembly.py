"""Images of results: one for each step, as the classic builder makes them, each the parent of the next.

An image is a pure function of the plan, the results and the times at which those came to be, so a build that finds all in the
cache gives the images that it gave before.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from boxship.base import clock
from boxship.base.errors import InvalidInput
from boxship.build.plan import SUMMARY, Plan, Stage, Step
from boxship.build.results import Result
from boxship.images.model import Image, ImageRow, make_image
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.oci import History, ImageConfig, RootFS, digest_of, encode_config


class StepImage(NamedTuple):
    """The image after a step; ``id`` is "" on scratch as long as there is neither a file nor a setting."""

    id: str
    document: bytes
    layers: tuple[str, ...]  # chain IDs, bottom first
    parent: str
    config: ImageConfig
    created_ns: int


class Assembly:
    """The images of one plan. ``results`` grows while the build runs; an image can be asked for when its results are there.

    ``bases`` are the images that stages begin with, by id; ``diff_id`` gives the diff ID of a chain ID.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        results: Mapping[str, Result],
        bases: Mapping[str, Image],
        diff_id: Callable[[str], str],
    ) -> None:
        self._plan = plan
        self._results = results
        self._bases = bases
        self._diff_id = diff_id
        self._images: dict[tuple[int, int], StepImage] = {}
        self._places: dict[str, tuple[Stage, int]] = {}
        for stage in plan.stages:
            for number, step in enumerate(stage.steps[1:], 1):  # the first one's vertex is another stage's, or an image
                if step.vertex:
                    self._places.setdefault(step.vertex, (stage, number))

    def image(self, stage: Stage, number: int) -> StepImage:
        """Return the image after the step ``number`` (from 0) of a stage."""
        place = (stage.index, number)
        if place not in self._images:
            below = self.image(stage, number - 1) if number else None
            self._images[place] = self._first(stage) if below is None else self._next(below, stage.steps[number])
        return self._images[place]

    def step_of(self, vertex: str) -> tuple[ImageConfig, str] | None:
        """Return the configuration below a vertex's step and what history says of the step; None when it has none."""
        if vertex not in self._places:
            return None
        stage, number = self._places[vertex]
        return self.image(stage, number - 1).config, stage.steps[number].created_by

    def below(self, vertex: str) -> Image:
        """Return the image on which a vertex's program starts, without what its containers would inherit."""
        if vertex not in self._places:
            raise InvalidInput("a program of the graph belongs to no step")
        stage, number = self._places[vertex]
        image = self.image(stage, number - 1)
        row = ImageRow(config=image.document.decode(), layers=image.layers)
        made = make_image(image.id, row, size=0, names=())
        return msgspec.structs.replace(made, config=ContainerConfig())

    def _first(self, stage: Stage) -> StepImage:
        step = stage.steps[0]
        if stage.base:
            base = self._bases[stage.base]
            return StepImage(
                base.id, base.document, tuple(base.layers), "", base.image_config, time_ns(base.image_config.created)
            )
        for other in self._plan.stages:
            if (
                other.index < stage.index
                and step.vertex
                and other.result == step.vertex
                and other.steps[-1].config == step.config
            ):
                return self.image(other, len(other.steps) - 1)
        system, _, rest = stage.platform.partition("/")
        architecture, _, variant = rest.partition("/")
        config = ImageConfig(
            os=system or "linux", architecture=architecture, variant=variant, rootfs=RootFS(diff_ids=[])
        )
        created = self._results[step.vertex].created_ns if step.vertex in self._results else 0
        return StepImage("", encode_config(config), (), "", config, created)

    def _next(self, below: StepImage, step: Step) -> StepImage:
        result = self._results[step.vertex] if step.vertex else None
        layers = result.layers if result is not None else below.layers
        created_ns = result.created_ns if result is not None else below.created_ns
        added = result is not None and result.added
        created = clock.rfc3339(created_ns)
        summary = result.summary if result is not None else ""
        entry = History(
            created=created,
            created_by=step.created_by.replace(SUMMARY, summary),
            author=step.author or None,
            comment=step.comment or None,
            empty_layer=not added,
        )
        diff_ids: Sequence[str] = below.config.diff_ids
        if added:
            diff_ids = [*diff_ids, self._diff_id(layers[-1])]
        config = msgspec.structs.replace(
            below.config,
            created=created,
            author=step.author or below.config.author,
            comment="",
            container="",
            config=step.config,
            rootfs=RootFS(diff_ids=list(diff_ids)),
            history=[*(below.config.history or []), entry],
            build_cache=None,  # a base image's own
        )
        document = encode_config(config)
        return StepImage(digest_of(document), document, layers, below.id, config, created_ns)


def time_ns(text: str | None) -> int:
    """Return nanoseconds since 1970 of an RFC 3339 time in UTC; 0 for another form."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", text or "", re.ASCII)
    if match is None:
        return 0
    return calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000 + int(
        (match[2] or "").ljust(9, "0")
    )
