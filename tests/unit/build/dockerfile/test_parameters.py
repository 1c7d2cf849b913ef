"""What a Dockerfile offers: targets and parameters, as BuildKit's subrequests give them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from boxship.build.dockerfile import Base, PlanOptions, outline, parse, plan, targets
from boxship.spec.docker.container import ContainerConfig

TEXT = b"""# VERSION is of all stages
ARG VERSION=1
FROM busybox:$VERSION AS first
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true

FROM alpine AS second
RUN --mount=type=secret,id=unused --mount=type=ssh,id=ssh2 true

FROM --platform=linux/amd64 scratch AS third
ARG BAR
RUN --mount=type=secret,id=second${BAR} true

# another remark
# target is what is wanted
FROM third AS target
# OTHER counts
ARG OTHER=${VERSION:-none} BAR
COPY --from=first /foo /
RUN --mount=type=ssh,id=ssh3,required echo $UNKNOWN

FROM second
"""


async def unknown(reference: str, platform: str, name: str) -> Base:
    return Base(id="", layers=(), config=ContainerConfig(), platform="", is_known=False)


def described(target: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    file = parse(TEXT, "Dockerfile")
    planned = asyncio.run(plan(file, PlanOptions(target=target, build_args=arguments, check_only=True), unknown))
    assert not [each for each in planned.warnings if each.rule == "UndefinedVar" and "second" in each.message]
    return outline(file, planned)


@pytest.mark.row("BLD-33")
def test_parameters_are_those_of_the_stages_that_a_target_needs() -> None:
    document = described("target", {"BAR": "678"})
    assert (document["name"], document["description"]) == ("target", "is what is wanted")
    args = [(each["name"], each.get("value"), each.get("description")) for each in document["args"]]
    assert args == [("VERSION", "1", "is of all stages"), ("BAR", "678", None), ("OTHER", "none", "counts")]
    assert [(each["name"], each.get("required", False)) for each in document["secrets"]] == [
        ("passwd", True),
        ("second678", False),
    ]
    assert [(each["name"], each.get("required", False)) for each in document["ssh"]] == [
        ("default", False),
        ("ssh3", True),
    ]
    assert document["secrets"][0]["location"] == {"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]}


@pytest.mark.row("BLD-33")
def test_nothing_is_said_of_variables_that_an_unknown_base_image_may_set() -> None:
    def undefined(text: bytes) -> list[str]:
        planned = asyncio.run(plan(parse(text, "Dockerfile"), PlanOptions(check_only=True), unknown))
        return [each.message for each in planned.warnings if each.rule == "UndefinedVar"]

    assert undefined(b"FROM x AS a\nLABEL a=$FROM_X\nFROM a\nLABEL a=$FROM_X\n") == []
    assert undefined(b"FROM scratch\nLABEL a=$NOBODY\n") == ["Usage of undefined variable '$NOBODY'"]


def test_targets_are_all_stages() -> None:
    rows = targets(parse(TEXT, "Dockerfile"))["targets"]
    assert [(each.get("name"), each.get("base"), each.get("default")) for each in rows] == [
        ("first", "busybox:$VERSION", None),
        ("second", "alpine", None),
        ("third", "scratch", None),
        ("target", "third", None),
        (None, "second", True),
    ]
    assert rows[2]["platform"] == "linux/amd64" and rows[3]["description"] == "is what is wanted"
