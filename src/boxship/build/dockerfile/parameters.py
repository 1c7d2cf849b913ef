"""What a Dockerfile offers to those who build it: its targets, and the parameters of one (``build --call=targets|outline``).

The documents are those of BuildKit's subrequests ``frontend.targets`` and ``frontend.outline``. Descriptions are comments above FROM
and ARG that begin with the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from boxship.build.dockerfile.scope import Arguments, Scope
from boxship.build.dockerfile.stages import Numbered, StageSource, divide
from boxship.build.graph import Mount, Run
from boxship.build.plan import Parameter, Plan
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.instructions import File


def targets(file: File) -> dict[str, Any]:
    """Return the stages that can be built. Raises DockerfileError."""
    stages = divide(file).stages
    rows = []
    for stage in stages:
        line = stage.begin.source
        row: dict[str, Any] = {"name": stage.begin.name, "default": stage is stages[-1]}
        row |= {"description": _description(line.comments, stage.begin.name), "base": stage.begin.base}
        row |= {"platform": stage.begin.platform}
        rows.append({**_said(row), "location": _location(line.line, line.end_line)})
    return {"targets": rows}


def arguments(
    declared: Iterable[Numbered], stages: Iterable[StageSource], known: Arguments, scopes: dict[int, Scope]
) -> list[Parameter]:
    """Return the arguments ``declared`` before the first FROM and those of planned stages, each name once, by line."""
    found: dict[str, Parameter] = {}
    before = known.variables().values
    for step, values in [
        *((step, before) for step in declared),
        *((step, scopes[stage.index].declared) for stage in stages for step in stage.steps),
    ]:
        instruction, line = step.instruction, step.instruction.source
        if isinstance(instruction, instructions.Arg):
            for name, _ in instruction.arguments:
                description = _description(line.comments, name)
                made = Parameter(
                    kind="arg",
                    name=name,
                    value=values.get(name) or "",
                    description=description,
                    line=line.line,
                    end_line=line.end_line,
                )
                found.setdefault(name, made)
    return sorted(found.values(), key=lambda each: each.line)


def mounts(plan: Plan) -> list[Parameter]:
    """Return the secrets and agents that steps of a plan ask for, each once, by line."""
    found: dict[tuple[str, str], Parameter] = {}
    for step in sorted((step for stage in plan.stages for step in stage.steps), key=lambda step: step.line):
        operation = plan.graph[step.vertex].operation if step.vertex else None
        wanted: tuple[Mount, ...] = operation.mounts if isinstance(operation, Run) else ()
        for mount in wanted:
            if mount.type in ("secret", "ssh"):
                made = Parameter(
                    kind=mount.type, name=mount.id, required=mount.required, line=step.line, end_line=step.end_line
                )
                found.setdefault((mount.type, mount.id), made)
    return list(found.values())


def outline(file: File, plan: Plan) -> dict[str, Any]:
    """Return the parameters of a plan's target."""
    begin = divide(file).stages[plan.target.index].begin
    document: dict[str, Any] = {"name": begin.name, "description": _description(begin.source.comments, begin.name)}
    for key, kind in (("args", "arg"), ("secrets", "secret"), ("ssh", "ssh")):
        rows = [each for each in plan.parameters if each.kind == kind]
        document |= {
            key: [
                {
                    "name": each.name,
                    **_said({"description": each.description, "value": each.value, "required": each.required}),
                    "location": _location(each.line, each.end_line),
                }
                for each in rows
            ]
        }
    return _said(document)


def _description(comments: tuple[str, ...], name: str) -> str:
    """Return what the first comment says that begins with a name."""
    lines = (comment.split(None, 1) for comment in comments)
    return next((words[1] for words in lines if name and len(words) == 2 and words[0].lower() == name.lower()), "")


def _said(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value}


def _location(line: int, end_line: int) -> dict[str, Any]:
    return {"ranges": [{"start": {"line": line}, "end": {"line": end_line}}]}
