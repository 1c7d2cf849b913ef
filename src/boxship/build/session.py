"""One build while it runs: what all of its steps share."""

from __future__ import annotations

import time
from collections.abc import Callable

from boxship.base.identity import IdentityMapping
from boxship.build.files import Tree
from boxship.build.progress import AnyEvent
from boxship.build.remote_cache.imports import Imports
from boxship.build.steps.scratch import Scratch
from boxship.images.layers import Addition, LayerStore
from boxship.images.model import Image
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.container import HostConfig
from boxship.spec.oci import ImageConfig

Report = Callable[[AnyEvent], None]


class Session:
    """What a build holds and was told. ``image_below`` gives the image that a vertex's program starts on, by its id."""

    def __init__(
        self,
        options: BuildOptions,
        *,
        layers: LayerStore,
        addition: Addition,
        scratch: Scratch,
        host: HostConfig,
        report: Report,
        identity: IdentityMapping | None,
    ) -> None:
        self.options = options
        self.layers = layers
        self.addition = addition
        self.scratch = scratch
        self.host = host
        self.report = report
        self.identity = identity
        self.contexts: dict[str, Tree] = {}
        self.fetched: dict[str, str] = {}  # by vertex: digest of a download, commit of a repository, "algorithm:value"
        self.image_below: Callable[[str], Image] = _unknown
        self.step_of: Callable[[str], tuple[ImageConfig, str] | None] = lambda _: (
            None
        )  # configuration below, history's text
        self.cache_from: list[Image] = []
        self.devices: dict[str, list[str]] = {}  # what programs get of the host, by their vertices
        self.imports: Imports | None = None  # caches of other engines
        self.epoch_ns: int | None = None  # SOURCE_DATE_EPOCH

    def now_ns(self) -> int:
        """Return the time that new files and results have."""
        return time.time_ns() if self.epoch_ns is None else self.epoch_ns


def _unknown(vertex: str) -> Image:
    raise AssertionError(f"no image below {vertex}")
