"""CDI specifications from files: forms, precedence, conflicts and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxship.base.errors import SystemFailure
from boxship.engine.cdi import registry

YAML = """\
cdiVersion: "0.6.0"
kind: vendor.com/net
containerEdits:
  env: ["ALL=1"]
devices:
  - name: one
    containerEdits:
      env: ["ONE=1"]
      deviceNodes:
        - {path: /dev/one, hostPath: /dev/null, permissions: rw}
  - name: two
    containerEdits: {env: ["TWO=1"]}
"""


def spec(env: str = "A=1", *, name: str = "one", kind: str = "vendor.com/net", **fields: Any) -> str:
    devices = [{"name": name, "containerEdits": {"env": [env]}}]
    return json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": devices, **fields})


def test_specifications_are_read_as_json_and_as_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(YAML)
    (tmp_path / "b.json").write_text(spec(kind="other.org/gpu", name="0"))
    (tmp_path / "c.txt").write_text("no specification")
    found = registry.scan([str(tmp_path), str(tmp_path / "missing")])
    assert found.errors == []
    assert sorted(found.devices) == ["other.org/gpu=0", "vendor.com/net=one", "vendor.com/net=two"]


def test_edits_of_a_specification_come_once_before_those_of_its_devices(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(YAML)
    found = registry.scan([str(tmp_path)])
    edits = registry.edits(found, ["vendor.com/net=two", "vendor.com/net=one", "vendor.com/net=two"])
    assert [edit.env for edit in edits] == [["ALL=1"], ["TWO=1"], ["ONE=1"]]


def test_a_later_directory_overrides_an_earlier_one(tmp_path: Path) -> None:
    for name, env in (("etc", "A=etc"), ("run", "A=run")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.json").write_text(spec(env))
    found = registry.scan([str(tmp_path / "etc"), str(tmp_path / "run")])
    assert found.errors == []
    assert found.devices["vendor.com/net=one"].device.container_edits.env == ["A=run"]


def test_a_device_of_two_files_of_one_directory_is_none_unless_a_later_directory_has_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, name in ((first, "a"), (first, "b"), (second, "c")):
        directory.mkdir(exist_ok=True)
        (directory / f"{name}.json").write_text(spec(f"A={name}"))
    found = registry.scan([str(first)])
    assert found.devices == {}
    assert found.errors == [f'conflicting device "vendor.com/net=one" (specs "{first}/a.json", "{first}/b.json")']
    assert "vendor.com/net=one" in registry.scan([str(first), str(second)]).devices


def test_devices_that_there_are_not_are_named_in_dockers_words(tmp_path: Path) -> None:
    found = registry.scan([str(tmp_path)])
    message = "CDI device injection failed: unresolvable CDI devices a.b/c=d, e.f/g=h"
    with pytest.raises(SystemFailure, match=message):
        registry.edits(found, ["a.b/c=d", "e.f/g=h"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        (spec(cdiVersion="9.0.0"), 'unknown CDI Spec version "9.0.0"'),
        (spec(kind="vendor.com"), 'invalid class ""'),
        (spec(kind="-/net"), 'invalid vendor "-"'),
        (spec(name="../x"), 'invalid device name "../x"'),
        (spec(devices=[]), "no devices"),
        (spec(unknown=1), "unknown field"),
        (spec("noequals"), 'invalid environment variable "noequals"'),
        (spec(containerEdits={"hooks": [{"hookName": "x", "path": "/x"}]}), 'invalid hook name "x"'),
        (spec(containerEdits={"hooks": [{"hookName": "poststop", "path": "x"}]}), 'with path "x"'),
        (spec(containerEdits={"deviceNodes": [{"path": "/dev/x", "permissions": "x"}]}), 'invalid permissions "x"'),
        (spec(containerEdits={"deviceNodes": [{"path": "/dev/x", "major": -1}]}), "Expected `int` >= 0"),
        (spec(containerEdits={"deviceNodes": [{"path": "/dev/x", "type": "z"}]}), 'invalid type "z"'),
        (spec(containerEdits={"mounts": [{"hostPath": "/x", "containerPath": "x"}]}), 'container path "x"'),
    ],
)
def test_a_wrong_specification_is_left_out_and_said(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    (tmp_path / "good.json").write_text(spec(name="good"))
    found = registry.scan([str(tmp_path)])
    assert list(found.devices) == ["vendor.com/net=good"]
    assert len(found.errors) == 1
    assert found.errors[0].startswith(f'failed to load CDI Spec "{tmp_path}/bad.json": ')
    assert complaint in found.errors[0]


def test_yaml_that_is_none_or_grows_by_aliases_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a [x, x]\nb: [*a, *a]\n")
    (tmp_path / "b.yaml").write_text("a: [")
    (tmp_path / "c.yaml").mkdir()
    found = registry.scan([str(tmp_path)])
    assert found.devices == {}
    assert "aliases are not supported" in found.errors[0]
    assert len(found.errors) == 3


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(registry._MAX_FILE + 1)
    assert "larger than" in registry.scan([str(tmp_path)]).errors[0]
