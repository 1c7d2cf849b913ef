"""Small Dockerfiles as dockerd 20.10 took them: ``recorded.json`` has what its classic builder said and made, on an empty base.

Left out is where later Dockers differ from 20.10: ``${x-d}``, heredocs, mounts, platform arguments, ``--interval=0``, paths of
WORKDIR that are not as short as can be.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boxship.build.dockerfile import Base, DockerfileError, PlanOptions, parse, plan
from boxship.build.plan import SUMMARY, Plan
from boxship.spec.docker.container import ContainerConfig

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())


def planned(text: str) -> Plan:
    async def resolve(reference: str, platform: str, name: str) -> Base:
        return Base(id=reference, layers=(), config=ContainerConfig(), platform=platform)

    return asyncio.run(plan(parse(text.encode()), PlanOptions(), resolve))


@pytest.mark.row("BLD-14", "BLD-16", "BLD-25", "BLD-26")
@pytest.mark.parametrize("row", RECORDED, ids=lambda row: repr(row["text"]))
def test_history_configuration_and_refusals_are_dockers(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(DockerfileError) as caught:
            planned(row["text"])
        assert str(caught.value) == row["error"]
        return
    made = planned(row["text"])
    texts = [step.created_by.replace(SUMMARY, "<summary>") for step in made.target.steps if step.created_by]
    assert texts == row["history"][-len(texts) :]
    config = msgspec.json.decode(msgspec.json.encode(made.target.config))
    assert {key: value for key, value in config.items() if value not in (None, "", False, [], {})} == row["config"]
