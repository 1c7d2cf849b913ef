"""What CDI edits make of an OCI configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from boxship.base.errors import SystemFailure
from boxship.engine.cdi.injection import inject
from boxship.engine.cdi.model import DeviceNode, Edits, Hook, Mount


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "process": {"env": ["A=old", "B=1"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc"}, {"destination": "/data/deep"}],
        "linux": {"devices": [{"path": "/dev/it"}], "resources": {"devices": []}},
    }


def test_a_node_is_as_the_hosts_unless_said_otherwise(document: dict[str, Any]) -> None:
    inject(document, [Edits(device_nodes=[DeviceNode(path="/dev/it", host_path="/dev/null", permissions="rw", gid=7)])])
    host = os.stat("/dev/null")
    (device,) = document["linux"]["devices"]
    assert (device["type"], device["major"], device["minor"], device["fileMode"]) == ("c", 1, 3, host.st_mode & 0o7777)
    assert (device["uid"], device["gid"], device["source"]) == (host.st_uid, 7, "/dev/null")
    rule = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}
    assert document["linux"]["resources"]["devices"] == [rule]


def test_a_node_whose_numbers_are_given_need_not_be_on_the_host(document: dict[str, Any]) -> None:
    inject(document, [Edits(device_nodes=[DeviceNode(path="/dev/nowhere", type="b", major=7, minor=99)])])
    device = document["linux"]["devices"][-1]
    assert (device["type"], device["major"], device["minor"], device["fileMode"]) == ("b", 7, 99, 0o666)


@pytest.mark.parametrize(
    ("node", "complaint"),
    [
        (DeviceNode(path="/dev/nowhere"), 'failed to stat CDI host device "/dev/nowhere": no such file or directory'),
        (
            DeviceNode(path="/dev/null", type="b"),
            r'CDI device \("/dev/null", "/dev/null"\), host type mismatch \(b, c\)',
        ),
        (DeviceNode(path="/etc"), ".*host type mismatch"),
    ],
)
def test_a_node_that_the_host_has_not_is_refused(document: dict[str, Any], node: DeviceNode, complaint: str) -> None:
    with pytest.raises(SystemFailure, match=f"CDI device injection failed: {complaint}"):
        inject(document, [Edits(device_nodes=[node])])


def test_a_mount_comes_before_what_lies_beneath_it_and_replaces_its_place(document: dict[str, Any]) -> None:
    mount = Mount(host_path="/usr/lib/x", container_path="/data/", options=["ro", "nosuid"])
    inject(document, [Edits(mounts=[mount]), Edits(mounts=[mount])])
    assert [entry["destination"] for entry in document["mounts"]] == ["/proc", "/data", "/data/deep"]
    bound = {"destination": "/data", "type": "bind", "source": "/usr/lib/x", "options": ["bind", "ro", "nosuid"]}
    assert document["mounts"][1] == bound


def test_environment_hooks_and_groups_are_added(document: dict[str, Any]) -> None:
    hook = Hook(hook_name="createContainer", path="/bin/x", args=["x", "y"], timeout=3)
    inject(document, [Edits(env=["A=new", "C=2"], hooks=[hook], additional_gids=[0, 5, 5, 6])])
    assert document["process"]["env"] == ["A=new", "B=1", "C=2"]
    assert document["hooks"] == {"createContainer": [{"path": "/bin/x", "args": ["x", "y"], "timeout": 3}]}
    assert document["process"]["user"]["additionalGids"] == [5, 6]


@pytest.mark.parametrize("edit", [Edits(intel_rdt={"closID": "x"}), Edits(net_devices=[{"hostInterfaceName": "x"}])])
def test_what_no_runtime_of_ours_does_is_refused(document: dict[str, Any], edit: Edits, tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="is not supported"):
        inject(document, [edit])
