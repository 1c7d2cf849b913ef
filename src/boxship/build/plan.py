"""What a frontend hands to the solver: the graph, and the steps and the configuration that make images of its results.

An image's configuration is a pure function of the plan and of the times at which results came to be. A step without a vertex
of its own changes only the configuration; its history entry has the time of the result below it. So a build that finds
everything in the cache gives the image that it gave before, bit for bit.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from boxship.build.graph import Graph
from boxship.spec.docker.container import ContainerConfig

SUMMARY = "\0"  # in ``Step.created_by``: stands for what COPY and ADD took, as in "file:<hash>"


class Warning(msgspec.Struct, frozen=True, kw_only=True):
    """A finding of the linter: the rule's name as in Docker's reference, a sentence, the lines it is about (from 1)."""

    rule: str
    message: str
    line: int = 0
    end_line: int = 0
    url: str = ""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a build can be given; see ``dockerfile.parameters``."""

    kind: Literal["arg", "secret", "ssh"]
    name: str
    value: str = ""  # of an argument
    description: str = ""
    required: bool = False  # of a secret or an agent
    line: int = 0
    end_line: int = 0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction. ``number`` counts from 1 over all stages of the file, as in "Step 7/14".

    Several steps in a row have one number when an instruction takes several operations (COPY of a heredoc and of files), and
    when a base image's ONBUILD triggers follow on FROM. A step from ``--label`` has no line.
    """

    number: int
    stage: int
    text: str  # the instruction as the classic builder shows it, variables expanded as it does
    line: int
    end_line: int
    config: ContainerConfig  # of the image after this step
    vertex: str = ""  # id; "" when only the configuration changes
    created_by: str = ""  # of the history entry
    comment: str = ""
    author: str = ""
    is_trigger: bool = False  # of the base image's ONBUILD; ``text`` is the trigger, ``line`` that of FROM


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One build stage, complete."""

    index: int
    name: str  # "" without AS
    platform: str  # os/architecture[/variant] of what it makes
    base: str  # id of the image it begins with, "" for scratch
    steps: tuple[Step, ...]  # the first is FROM, whose vertex is the base
    result: str  # id of the vertex whose result is the stage's filesystem
    config: ContainerConfig


class Plan:
    """A build, decided: ``target`` is the stage whose result is wanted; stages it does not need are not in ``stages``."""

    def __init__(self, graph: Graph, stages: tuple[Stage, ...], target: Stage, total_steps: int) -> None:
        self.graph = graph
        self.stages = stages
        self.target = target
        self.total_steps = (
            total_steps  # the M of "Step N/M": all instructions of the file, as the classic builder counts
        )
        self.arguments: tuple[Step, ...] = ()  # ARG before the first FROM, of no stage (-1), in order
        self.warnings: tuple[Warning, ...] = ()
        self.warnings_fail = False  # the file says so
        self.parameters: tuple[Parameter, ...] = ()  # of the stages that are needed
        self.unused_args: tuple[str, ...] = ()  # --build-arg that nothing consumed
