"""What a build says while it runs. The API turns these into Docker's classic text, our command line into a live view.

Events of one vertex come in order; vertices that run at the same time interleave.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag=str.lower):
    """``time_ns``: wall clock, nanoseconds since 1970."""

    time_ns: int


class Planned(Event, frozen=True, kw_only=True):
    """The vertices of the build with the steps they belong to; comes once, before all others of them."""

    vertices: tuple[Row, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A vertex as it is listed: ``step`` and ``stage`` are 0 and "" when no instruction stands behind it."""

    vertex: str
    name: str
    inputs: tuple[str, ...] = ()
    step: int = 0
    stage: str = ""


class Started(Event, frozen=True, kw_only=True):
    """A vertex is carried out; ``container`` is the id of the one a program runs in."""

    vertex: str
    container: str = ""


class Output(Event, frozen=True, kw_only=True):
    """What a program wrote; ``stream`` is 1 or 2."""

    vertex: str
    stream: int
    data: bytes


class Transfer(Event, frozen=True, kw_only=True):
    """Bytes so far, of a download, a context, a layer; ``total`` 0 when it is not known."""

    vertex: str
    what: str
    current: int
    total: int = 0


class Ended(Event, frozen=True, kw_only=True):
    """A vertex has a result. ``cached``: the cache had it; ``reason``: why it did not (``build --why``).

    ``place``: where a cached result came from when it was not this engine's: "registry NAME", "image NAME", "local".
    """

    vertex: str
    cached: bool = False
    reason: str = ""
    place: str = ""
    bytes_written: int = 0


class Failed(Event, frozen=True, kw_only=True):
    """A vertex failed; ``code`` is the exit code of its program, 0 when there was none."""

    vertex: str
    message: str
    code: int = 0


class Stopped(Event, frozen=True, kw_only=True):
    """A program failed in a build with ``debug``: the step waits for its user, who names it by ``container``."""

    vertex: str
    container: str
    message: str
    code: int = 0


class StepDone(Event, frozen=True, kw_only=True):
    """A step's image is known (in order of the steps of each stage); ``image`` is its id, "" below the first step on scratch.

    ``cached``: it was there before, or what it adds was found in the cache. ``stage_ends``: it is the last of its stage.
    """

    step: int
    image: str
    cached: bool = False
    stage_ends: bool = False


class Pulling(Event, frozen=True, kw_only=True):
    """A base image arrives; ``message`` is one of Docker's progress messages."""

    message: dict[str, Any]


class Warned(Event, frozen=True, kw_only=True):
    """A finding of the linter, or an argument that nothing consumed."""

    message: str
    rule: str = ""
    line: int = 0
    end_line: int = 0
    url: str = ""


class Checked(Event, frozen=True, kw_only=True):
    """The end of a build that was only to be checked; its findings came before. ``name`` and ``text`` are the Dockerfile's.

    ``fails``: the file says that findings fail a build.
    """

    name: str
    text: str
    fails: bool = False


class Described(Event, frozen=True, kw_only=True):
    """The end of a build that was only to be described: the document of ``call=outline`` or ``call=targets``."""

    document: dict[str, Any]


class Built(Event, frozen=True, kw_only=True):
    """The end of a build that went well: the image's id ("" when the result is files) and the names it was given."""

    image: str
    names: tuple[str, ...] = ()


class CacheReady(Event, frozen=True, kw_only=True):
    """What a ``--cache-to type=local`` is made of: the client fetches it with POST /boxship/build/cache.

    ``export`` is its number among the exports, ``records`` and ``mounts`` are what is to be asked for.
    """

    export: int
    records: tuple[str, ...]
    mounts: tuple[str, ...] = ()


class Aborted(Event, frozen=True, kw_only=True):
    """The end of a build that did not; ``code`` is the exit code of the program that failed, 0 when there was none."""

    message: str
    code: int = 0
    excerpt: str = ""  # of the Dockerfile, for a person


AnyEvent = (
    Planned
    | Started
    | Output
    | Transfer
    | Ended
    | Failed
    | Stopped
    | StepDone
    | Pulling
    | Warned
    | Checked
    | Described
    | Built
    | CacheReady
    | Aborted
)
