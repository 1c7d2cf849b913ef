"""The stages of a Dockerfile: which instructions are whose, which stage is wanted and what it needs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

import msgspec

from boxship.base.errors import InvalidInput
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.errors import DockerfileError, excerpt
from boxship.spec.dockerfile.instructions import File, Instruction
from boxship.spec.dockerfile.mounts import mount_origin
from boxship.spec.dockerfile.words import Variables


class Numbered(msgspec.Struct, frozen=True):
    """An instruction with its place in the file, from 1, as in "Step 7/14"."""

    number: int
    instruction: Instruction


class StageSource(msgspec.Struct, frozen=True, kw_only=True):
    """A stage as it is written."""

    index: int
    number: int  # of FROM
    begin: instructions.From
    steps: tuple[Numbered, ...]

    @property
    def last(self) -> int:
        """The number of the stage's last instruction."""
        return self.steps[-1].number if self.steps else self.number

    @property
    def label(self) -> str:
        """How people are told which stage it is."""
        return self.begin.name or f"stage-{self.index}"


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """A Dockerfile by stages; ``arguments`` stand before the first."""

    file: File
    arguments: tuple[Numbered, ...]
    stages: tuple[StageSource, ...]

    def find(self, name: str, before: int) -> StageSource | None:
        """Return the last stage of this name among the first ``before``."""
        named = (stage for stage in reversed(self.stages[:before]) if stage.begin.name == name.lower())
        return next(named, None)

    def origin(self, name: str, before: int) -> StageSource | None:
        """Return the stage that ``--from`` names, by name or number; None: it is an image or a context. Raises InvalidInput."""
        if re.fullmatch(r"\d{1,9}", name, re.ASCII):
            if int(name) >= before:
                reason = "refers to current build stage" if int(name) == before else "index out of bounds"
                raise InvalidInput(f"invalid from flag value {name}: {reason}")
            return self.stages[int(name)]
        return self.find(name, before)

    def target(self, name: str) -> StageSource:
        """Return the stage that ``--target`` names. Raises InvalidInput."""
        if not name:
            return self.stages[-1]
        found = self.find(name, len(self.stages))
        if found is None and re.fullmatch(r"\d{1,9}", name, re.ASCII) and int(name) < len(self.stages):
            return self.stages[int(name)]
        if found is None:
            raise InvalidInput(f"failed to reach build target {name} in Dockerfile")
        return found


def divide(file: File) -> Division:
    """Tell stages apart. Raises DockerfileError."""
    arguments: list[Numbered] = []
    begins: list[tuple[Numbered, instructions.From, list[Numbered]]] = []
    for number, instruction in enumerate(file.instructions, 1):
        numbered = Numbered(number, instruction)
        if isinstance(instruction, instructions.From):
            begins.append((numbered, instruction, []))
        elif begins:
            begins[-1][2].append(numbered)
        elif isinstance(instruction, instructions.Arg):
            arguments.append(numbered)
        else:
            raise located(file, instruction, InvalidInput("no build stage in current context"))
    if not begins:
        raise DockerfileError("no build stage in current context", name=file.name)
    stages = tuple(
        StageSource(index=index, number=numbered.number, begin=begin, steps=tuple(steps))
        for index, (numbered, begin, steps) in enumerate(begins)
    )
    return Division(file=file, arguments=tuple(arguments), stages=stages)


def needed(division: Division, target: StageSource, variables: Variables) -> list[StageSource]:
    """Return the stages that ``target`` depends on, itself last, each behind those that it needs."""
    wanted = {target.index}
    for stage in reversed(division.stages[: target.index + 1]):
        if stage.index in wanted:
            wanted.update(_references(division, stage, variables))
    return [stage for stage in division.stages if stage.index in wanted]


def _references(division: Division, stage: StageSource, variables: Variables) -> Iterator[int]:
    # What cannot be understood here is refused where the instruction is planned.
    names: list[str] = []
    with contextlib.suppress(InvalidInput):
        found = division.find(variables.word(stage.begin.base), stage.index)
        if found is not None:
            yield found.index
    for step in stage.steps:
        names += origins(step.instruction)
    for name in names:
        with contextlib.suppress(InvalidInput):
            origin = division.origin(variables.word(name), stage.index)
            if origin is not None:
                yield origin.index


def origins(instruction: Instruction) -> Iterable[str]:
    """Return what an instruction reads beside its own stage, as written."""
    if isinstance(instruction, instructions.Copy):
        return [instruction.origin] if instruction.origin else []
    if isinstance(instruction, instructions.Run):
        return [origin for origin in map(mount_origin, instruction.mounts) if origin]
    return []


def located(file: File, instruction: Instruction, exc: InvalidInput) -> DockerfileError:
    """Return the error with the place of its instruction."""
    if isinstance(exc, DockerfileError) and exc.line:
        return exc
    line = instruction.source
    shown = excerpt(file.name, file.lines, line.line, line.end_line, line.written)
    return DockerfileError(str(exc), name=file.name, line=line.line, end_line=line.end_line, excerpt=shown)
