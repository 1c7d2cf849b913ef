"""The classic builder's text, made of a build's events: steps in the order of the file, though stages run at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from boxship.base.ids import new_id
from boxship.build.plan import Plan, Step
from boxship.build.progress import AnyEvent, Failed, Output, Planned, Pulling, Started, StepDone
from boxship.images.progress import stream

Message = dict[str, Any]

_SHORT = 12
_WITHOUT_CONTAINER = frozenset(("FROM", "COPY", "ADD"))
_RED, _PLAIN = b"\x1b[91m", b"\x1b[0m"


class ClassicText:
    """Turns events into Docker's messages. ``removes``: steps' containers go (--rm), ``forced``: also that of a failed one."""

    def __init__(self, plan: Plan, *, removes: bool, forced: bool) -> None:
        self._total = plan.total_steps
        self._arguments = plan.arguments
        self._removes = removes
        self._forced = forced
        steps = [step for stage in plan.stages for step in stage.steps]
        self._steps = {number: list(group) for number, group in groupby(steps, key=lambda step: step.number)}
        self._order = list(self._steps)
        self._numbers: dict[str, int] = {}
        for stage in plan.stages:
            for step in stage.steps[1:]:
                self._numbers.setdefault(step.vertex, step.number)
        self._waiting: dict[int, list[Message]] = {number: [] for number in self._order}
        self._containers: dict[str, str] = {}  # by vertex
        self._position = -1
        self._ended: set[int] = set()

    def messages(self, event: AnyEvent) -> Iterator[Message]:
        """Yield what the event lets be said now."""
        match event:
            case Planned():
                for step in self._arguments:
                    yield from self._head(step)
                yield from self._advance()
            case Pulling():
                yield event.message
            case StepDone():
                yield from self._done(event)
            case Started() if event.container and event.vertex in self._numbers:
                short = self._containers[event.vertex] = event.container[:_SHORT]
                yield from self._say(self._numbers[event.vertex], stream(f" ---> Running in {short}\n"))
            case Output() if event.vertex in self._numbers:
                yield from self._say(self._numbers[event.vertex], stream(_shown(event)))
            case Failed() if event.vertex in self._numbers:
                yield from self._failed(self._numbers[event.vertex], event.vertex)

    def _done(self, event: StepDone) -> Iterator[Message]:
        number = event.step
        for step in self._steps[number]:
            for line in self._ending(step, cached=event.cached):
                yield from self._say(number, stream(line))
        yield from self._say(number, stream(f" ---> {event.image.removeprefix('sha256:')[:_SHORT]}\n"))
        if event.stage_ends and event.image:
            yield from self._say(number, {"aux": {"ID": event.image}})
        self._ended.add(number)
        if self._order[self._position] == number:
            yield from self._advance()

    def _ending(self, step: Step, *, cached: bool) -> Iterator[str]:
        container = self._containers.get(step.vertex, "")
        word = _word(step)
        if cached and word != "FROM":
            yield " ---> Using cache\n"
        elif not container and word not in _WITHOUT_CONTAINER:
            # Docker makes a container for every instruction, which ours needs not; scripts read these lines.
            container = new_id()[:_SHORT]
            yield f" ---> Running in {container}\n"
        if container and self._removes:
            yield f"Removing intermediate container {container}\n"

    def _failed(self, number: int, vertex: str) -> Iterator[Message]:
        if self._order[self._position] != number:
            yield from self._begin(number)
        container = self._containers.get(vertex)
        if container and self._forced:
            yield stream(f"Removing intermediate container {container}\n")

    def _advance(self) -> Iterator[Message]:
        """Go to the next step that has not ended, and say all that waited."""
        while self._position + 1 < len(self._order):
            self._position += 1
            number = self._order[self._position]
            yield from self._begin(number)
            if number not in self._ended:
                return

    def _begin(self, number: int) -> Iterator[Message]:
        yield from self._head(self._steps[number][0])
        triggers = sum(step.is_trigger for step in self._steps[number])
        if triggers:
            yield stream(f"# Executing {triggers} build trigger{'s' if triggers > 1 else ''}\n")
        yield from self._waiting.pop(number, ())

    def _head(self, step: Step) -> Iterator[Message]:
        yield stream(f"Step {step.number}/{self._total} : {step.text}")
        yield stream("\n")

    def _say(self, number: int, message: Message) -> Iterator[Message]:
        if self._position >= 0 and self._order[self._position] == number:
            yield message
        elif number in self._waiting:
            self._waiting[number].append(message)


def _word(step: Step) -> str:
    return step.text.split(" ")[0].upper()


def _shown(event: Output) -> str:
    data = _RED + event.data + _PLAIN if event.stream == 2 else event.data
    return data.decode("utf-8", "replace")
