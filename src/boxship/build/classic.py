"""The classic builder's text, made of a build's events: steps in the order of the file, though stages run at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from boxship.base.ids import new_id
from boxship.build.plan import Plan
from boxship.build.progress import AnyEvent, Failed, Output, Planned, Pulling, Started, StepDone
from boxship.images.progress import stream

Message = dict[str, Any]

_SHORT = 12
_WITHOUT_CONTAINER = frozenset(("FROM", "COPY", "ADD", "ARG"))
_RED, _PLAIN = b"\x1b[91m", b"\x1b[0m"


class ClassicText:
    """Turns events into Docker's messages. ``removes``: steps' containers go (--rm), ``forced``: also that of a failed one."""

    def __init__(self, plan: Plan, *, removes: bool, forced: bool) -> None:
        self._total = plan.total_steps
        self._removes = removes
        self._forced = forced
        steps = [step for stage in plan.stages for step in stage.steps]
        self._order = [step.number for step in steps]
        self._texts = {step.number: step.text for step in steps}
        self._vertices: Mapping[str, int] = {step.vertex: step.number for step in steps if step.vertex}
        self._waiting: dict[int, list[Message]] = {number: [] for number in self._order}
        self._containers: dict[int, str] = {}
        self._position = -1
        self._ended: set[int] = set()

    def messages(self, event: AnyEvent) -> Iterator[Message]:
        """Yield what the event lets be said now."""
        match event:
            case Planned():
                yield from self._advance()
            case Pulling():
                yield event.message
            case StepDone():
                yield from self._done(event)
            case Started() if event.container and event.vertex in self._vertices:
                number = self._vertices[event.vertex]
                self._containers[number] = event.container[:_SHORT]
                yield from self._say(number, stream(f" ---> Running in {event.container[:_SHORT]}\n"))
            case Output() if event.vertex in self._vertices:
                yield from self._say(self._vertices[event.vertex], stream(_shown(event)))
            case Failed() if event.vertex in self._vertices:
                yield from self._failed(self._vertices[event.vertex])

    def _done(self, event: StepDone) -> Iterator[Message]:
        number = event.step
        container = self._containers.get(number, "")
        word = self._texts[number].split(" ")[0].upper()
        if event.cached and word not in ("FROM", "ARG"):
            yield from self._say(number, stream(" ---> Using cache\n"))
        elif not container and word not in _WITHOUT_CONTAINER:
            # Docker makes a container for every instruction, which ours needs not; scripts read these lines.
            container = new_id()[:_SHORT]
            yield from self._say(number, stream(f" ---> Running in {container}\n"))
        if container and self._removes:
            yield from self._say(number, stream(f"Removing intermediate container {container}\n"))
        if word != "ARG" or event.image:
            yield from self._say(number, stream(f" ---> {event.image.removeprefix('sha256:')[:_SHORT]}\n"))
        if event.stage_ends and event.image:
            yield from self._say(number, {"aux": {"ID": event.image}})
        self._ended.add(number)
        if self._order[self._position] == number:
            yield from self._advance()

    def _failed(self, number: int) -> Iterator[Message]:
        if self._order[self._position] != number:
            yield from self._head(number)
        container = self._containers.get(number)
        if container and self._forced:
            yield stream(f"Removing intermediate container {container}\n")

    def _advance(self) -> Iterator[Message]:
        """Go to the next step that has not ended, and say all that waited."""
        while self._position + 1 < len(self._order):
            self._position += 1
            number = self._order[self._position]
            yield from self._head(number)
            if number not in self._ended:
                return

    def _head(self, number: int) -> Iterator[Message]:
        yield stream(f"Step {number}/{self._total} : {self._texts[number]}")
        yield stream("\n")
        yield from self._waiting.pop(number, ())

    def _say(self, number: int, message: Message) -> Iterator[Message]:
        if self._position >= 0 and self._order[self._position] == number:
            yield message
        elif number in self._waiting:
            self._waiting[number].append(message)


def _shown(event: Output) -> str:
    data = _RED + event.data + _PLAIN if event.stream == 2 else event.data
    return data.decode("utf-8", "replace")
