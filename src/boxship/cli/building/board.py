"""What is known of a build while it runs: its vertices in order, what each does, and the last lines it wrote.

Fed with the events of ``build.progress`` as JSON documents. Pure: times come with the events, or from the caller.
"""

from __future__ import annotations

from binascii import a2b_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

WAITING, RUNNING, CACHED, DONE, FAILED = range(5)
LAST_LINES = 6  # of a running program, as they are shown


class Vertex:
    """One operation; times are nanoseconds since 1970."""

    __slots__ = (
        "began",
        "ended",
        "lines",
        "message",
        "name",
        "number",
        "output",
        "place",
        "reason",
        "shown",
        "stage",
        "state",
        "transfers",
    )

    def __init__(self, number: int, name: str, stage: str) -> None:
        self.number = number  # from 1, in the order in which vertices begin
        self.name = name
        self.stage = stage
        self.state = WAITING
        self.began = 0
        self.ended = 0
        self.output = bytearray()  # all of it: what a failure shows
        self.lines: list[str] = []  # the newest ones, the last perhaps incomplete
        self.message = ""
        self.shown = False  # the output, whole, below the picture
        self.reason = ""
        self.place = ""  # where a cached result came from, "" for the engine's own
        self.transfers: dict[str, tuple[int, int]] = {}  # what -> (bytes so far, all or 0)

    def seconds(self, now: int) -> float:
        """How long it takes or took."""
        return ((self.ended or now) - self.began) / 1e9 if self.began else 0.0

    def write(self, data: bytes) -> None:
        """Take what its program wrote."""
        self.output += data
        text = (self.lines.pop() if self.lines else "") + data.decode("utf-8", "replace")
        self.lines = [*self.lines, *text.split("\n")][-LAST_LINES - 1 :]


class Board:
    """All vertices of one build."""

    def __init__(self) -> None:
        self.vertices: dict[str, Vertex] = {}
        self.began = 0
        self.now = 0  # of the newest event
        self.image = ""
        self.names: list[str] = []
        self.error = ""
        self.excerpt = ""  # of the Dockerfile, where the error is
        self.code = 0
        self.warnings: list[dict[str, Any]] = []
        self.caches: list[dict[str, Any]] = []  # exports that wait to be fetched
        self._begun = 0

    def feed(self, event: dict[str, Any]) -> None:
        """Take over one event; a kind that is not known says nothing."""
        self.now = int(event["time_ns"])
        self.began = self.began or self.now
        handler = _HANDLERS.get(event["event"])
        if handler is not None:
            handler(self, event)

    def counts(self) -> tuple[int, int]:
        """Return how many vertices are done, and how many there are."""
        return sum(each.state in (CACHED, DONE) for each in self.vertices.values()), len(self.vertices)

    def stages(self) -> list[tuple[str, list[Vertex]]]:
        """Return the vertices by stage, those without one left out."""
        found: dict[str, list[Vertex]] = {}
        for each in self.vertices.values():
            if each.stage:
                found.setdefault(each.stage, []).append(each)
        return list(found.items())

    def running(self) -> Iterable[Vertex]:
        """Return what is being carried out."""
        return [each for each in self.vertices.values() if each.state == RUNNING]

    def _planned(self, event: dict[str, Any]) -> None:
        for row in event["vertices"]:
            self.vertices.setdefault(row["vertex"], Vertex(0, row["name"], row.get("stage", "")))

    def _vertex(self, event: dict[str, Any]) -> Vertex:
        each = self.vertices.setdefault(event["vertex"], Vertex(0, event["vertex"], ""))
        if not each.number:
            self._begun += 1
            each.number, each.began = self._begun, self.now
        return each

    def _started(self, event: dict[str, Any]) -> None:
        each = self._vertex(event)
        each.state, each.ended, each.message, each.shown = RUNNING, 0, "", False

    def _output(self, event: dict[str, Any]) -> None:
        self._vertex(event).write(a2b_base64(event["data"]))

    def _transfer(self, event: dict[str, Any]) -> None:
        self._vertex(event).transfers[event["what"]] = (event["current"], event.get("total", 0))

    def _ended(self, event: dict[str, Any]) -> None:
        each = self._vertex(event)
        each.state = CACHED if event.get("cached") else DONE
        each.ended = self.now
        each.reason = event.get("reason", "")
        each.place = event.get("place", "")

    def _failed(self, event: dict[str, Any]) -> None:
        each = self._vertex(event)
        each.state, each.ended, each.message = FAILED, self.now, event["message"]

    def _warned(self, event: dict[str, Any]) -> None:
        self.warnings.append(event)

    def _cacheready(self, event: dict[str, Any]) -> None:
        self.caches.append(event)

    def _built(self, event: dict[str, Any]) -> None:
        self.image, self.names = event["image"], event.get("names", [])

    def _aborted(self, event: dict[str, Any]) -> None:
        self.error, self.code, self.excerpt = event["message"], event.get("code", 0), event.get("excerpt", "")


_HANDLERS = {
    "planned": Board._planned,
    "started": Board._started,
    "output": Board._output,
    "transfer": Board._transfer,
    "ended": Board._ended,
    "failed": Board._failed,
    "stopped": Board._failed,  # until it starts again
    "warned": Board._warned,
    "cacheready": Board._cacheready,
    "built": Board._built,
    "aborted": Board._aborted,
}
