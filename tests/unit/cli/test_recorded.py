"""What an image's provenance and the environment make of a build's flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from boxship.cli.building.flags import FLAGS
from boxship.cli.building.query import build_query
from boxship.cli.building.recorded import apply
from boxship.cli.flags import Values, parse

BY_NAME = {flag.long: flag for flag in FLAGS}


def applied(predicate: dict[str, Any], *words: str, context: str = "https://e.org/x.git") -> Values:
    values = parse(FLAGS, [*words, context])
    apply(predicate, values, BY_NAME, context)
    return values


def predicate(path: object = "Dockerfile", epoch: object = None, **arguments: object) -> dict[str, Any]:
    return {
        "buildDefinition": {
            "externalParameters": {"configSource": {"path": path}, "request": {"args": arguments}},
            "internalParameters": {} if epoch is None else {"sourceDateEpoch": epoch},
        }
    }


def test_flags_that_were_left_out_get_what_the_image_was_built_with(tmp_path: Path) -> None:
    told = predicate(
        "sub/Other",
        "17",
        **{"target": "web", "squash": "", "build-arg:A": "1", "label:l": "x", "platform": "linux/arm64"},
    )
    values = applied(told, context=str(tmp_path))
    assert values.text("file") == str(tmp_path / "sub/Other")
    assert (values.text("target"), values.text("platform"), values.is_set("squash")) == ("web", "linux/arm64", True)
    assert values.many("build-arg") == ["A=1", "SOURCE_DATE_EPOCH=17"] and values.many("label") == ["l=x"]


def test_the_user_s_own_words_stand() -> None:
    told = predicate("Other", "17", **{"target": "web", "build-arg:A": "1", "build-arg:B": "2"})
    words = ("--target", "mine", "-f", "My", "--build-arg", "A=own", "--build-arg", "SOURCE_DATE_EPOCH=5")
    values = applied(told, *words)
    assert (values.text("target"), values.text("file")) == ("mine", "My")
    assert values.many("build-arg") == ["A=own", "SOURCE_DATE_EPOCH=5", "B=2"]


def test_a_stranger_s_document_reaches_nothing_outside(tmp_path: Path) -> None:
    told = predicate(
        "../../etc/passwd",
        "1; rm",
        **{"force-network-mode": "host", "build-arg:HTTPS_PROXY": "http://evil", "target": 7, "build-arg:N": None},
    )
    values = applied(told, context=str(tmp_path))
    assert values.changed == set() and values.text("network") == "default"
    assert applied(predicate("/etc/passwd"), context=str(tmp_path)).text("file") == str(tmp_path / "etc/passwd")
    assert applied(predicate(**{"force-network-mode": "none"})).text("network") == "none"


def test_what_is_no_provenance_changes_nothing() -> None:
    for document in (
        {},
        {"buildDefinition": []},
        predicate(path=3, epoch=17),
        {"buildDefinition": {"externalParameters": 1}},
    ):
        assert applied(document).changed == set()


def test_the_epoch_of_the_environment_is_an_argument_unless_another_one_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def arguments(*words: str) -> object:
        query = parse_qs(build_query(parse(FLAGS, [*words, "."]), dockerfile="", remote=""))
        return json.loads(query["buildargs"][0]) if "buildargs" in query else None

    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert arguments() is None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "17")
    assert arguments("--build-arg", "A=1") == {"SOURCE_DATE_EPOCH": "17", "A": "1"}
    assert arguments("--build-arg", "SOURCE_DATE_EPOCH=5") == {"SOURCE_DATE_EPOCH": "5"}
