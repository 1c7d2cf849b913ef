"""``RUN --device``: the forms of its value, and BuildKit's words about others."""

from __future__ import annotations

import asyncio

import pytest

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile import Base, PlanOptions, parse, plan
from boxship.build.graph import Run


async def _nothing(reference: str, platform: str, name: str) -> Base:
    raise AssertionError(f"no image is needed: {reference}")


def _run(device: str) -> Run:
    file = parse(f"FROM scratch\nRUN --device={device} a\n".encode(), "Dockerfile")
    planned = asyncio.run(plan(file, PlanOptions(), _nothing))
    operation = planned.graph[planned.target.result].operation
    assert isinstance(operation, Run)
    return operation


@pytest.mark.row("BLD-10")
@pytest.mark.parametrize(
    ("device", "required"),
    [
        ("v.w/x", False),
        ("v.w/x=1", False),
        ("v.w/x=1,required", True),
        ("name=v.w/x=1,required=true", True),
        ("required=false,v.w/x=1", False),
    ],
)
def test_a_device_has_a_name_and_may_be_required(device: str, required: bool) -> None:
    run = _run(device)
    (name,) = run.devices
    assert name in ("v.w/x", "v.w/x=1")
    assert run.needed_devices == ((name,) if required else ())


@pytest.mark.row("BLD-10")
@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("v.w/x=1,wanted=1", "unexpected key 'wanted' in 'wanted=1'"),
        ("v.w/x=1,wanted", "invalid field 'wanted' must be a key=value pair"),
        ("v.w/x=1,required=maybe", "invalid value for required: maybe"),
        ("v.w/x=1,name=v.w/x=2", "device name already set to v.w/x=1"),
    ],
)
def test_a_wrong_device_is_refused(device: str, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        _run(device)
    assert words in str(raised.value)
