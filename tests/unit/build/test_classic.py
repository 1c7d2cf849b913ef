"""The classic text: in the order of the file, whatever happens first."""

from __future__ import annotations

from boxship.build.classic import ClassicText
from boxship.build.graph import Graph, Run, Scratch, vertex
from boxship.build.plan import Plan, Stage, Step
from boxship.build.progress import AnyEvent, Failed, Output, Planned, Started, StepDone
from boxship.spec.docker.container import ContainerConfig

_CONFIG = ContainerConfig()
_BASE = vertex(Scratch())
_ONE = vertex(Run(args=("one",)), [_BASE])
_TWO = vertex(Run(args=("two",)), [_BASE])


def _step(number: int, stage: int, text: str, id: str, *, trigger: bool = False) -> Step:
    return Step(
        number=number,
        stage=stage,
        text=text,
        line=number,
        end_line=number,
        config=_CONFIG,
        vertex=id,
        is_trigger=trigger,
    )


def _stage(index: int, steps: tuple[Step, ...]) -> Stage:
    return Stage(
        index=index,
        name="",
        platform="linux/amd64",
        base="sha256:b",
        steps=steps,
        result=steps[-1].vertex,
        config=_CONFIG,
    )


def _plan() -> Plan:
    first = _stage(0, (_step(1, 0, "FROM b", _BASE.id), _step(2, 0, "RUN one", _ONE.id)))
    second = _stage(1, (_step(3, 1, "FROM b", _BASE.id), _step(4, 1, "RUN two", _TWO.id), _step(5, 1, "CMD x", "")))
    return Plan(Graph([_BASE, _ONE, _TWO]), (first, second), second, 5)


def _text(plan: Plan, *events: AnyEvent, removes: bool = True, forced: bool = False) -> str:
    text = ClassicText(plan, removes=removes, forced=forced)
    messages = [message for event in events for message in text.messages(event)]
    return "".join(message.get("stream", f"<{message.get('aux')}>") for message in messages)


def _done(step: int, image: str, *, cached: bool = False, last: bool = False) -> StepDone:
    return StepDone(time_ns=0, step=step, image=image, cached=cached, stage_ends=last)


START = (Planned(time_ns=0, vertices=()), _done(1, "sha256:b"), _done(3, "sha256:b"))


def test_steps_are_told_in_the_order_of_the_file() -> None:
    said = _text(
        _plan(),
        *START,
        Started(time_ns=0, vertex=_TWO.id, container="c2"),
        Output(time_ns=0, vertex=_TWO.id, stream=1, data=b"two\n"),
        _done(4, "sha256:2"),
        Started(time_ns=0, vertex=_ONE.id, container="c1"),
        Output(time_ns=0, vertex=_ONE.id, stream=2, data=b"one\n"),
        _done(2, "sha256:1", last=True),
        _done(5, "sha256:3", cached=True, last=True),
    )

    assert said == (
        "Step 1/5 : FROM b\n ---> b\n"
        "Step 2/5 : RUN one\n ---> Running in c1\n\x1b[91mone\n\x1b[0mRemoving intermediate container c1\n ---> 1\n"
        "<{'ID': 'sha256:1'}>"
        "Step 3/5 : FROM b\n ---> b\n"
        "Step 4/5 : RUN two\n ---> Running in c2\ntwo\nRemoving intermediate container c2\n ---> 2\n"
        "Step 5/5 : CMD x\n ---> Using cache\n ---> 3\n<{'ID': 'sha256:3'}>"
    )


def test_the_step_that_failed_is_told_though_others_before_it_have_not_ended() -> None:
    said = _text(
        _plan(),
        *START,
        Started(time_ns=0, vertex=_TWO.id, container="c2"),
        Failed(time_ns=0, vertex=_TWO.id, message="no", code=1),
        forced=True,
    )

    assert said.endswith("Step 4/5 : RUN two\n ---> Running in c2\nRemoving intermediate container c2\n")


def test_triggers_belong_to_from() -> None:
    steps = (
        _step(1, 0, "FROM b", _BASE.id),
        _step(1, 0, "ENV a=b", "", trigger=True),
        _step(1, 0, "RUN one", _ONE.id, trigger=True),
    )
    plan = Plan(Graph([_BASE, _ONE]), (_stage(0, steps),), _stage(0, steps), 1)

    said = _text(plan, START[0], Started(time_ns=0, vertex=_ONE.id, container="c1"), _done(1, "sha256:1", last=True))

    assert said.startswith("Step 1/1 : FROM b\n# Executing 2 build triggers\n ---> Running in c1\n")
    assert said.endswith(" ---> 1\n<{'ID': 'sha256:1'}>")
