"""Device requests and the CDI devices that they choose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.engine.cdi.requests import resolve
from boxship.spec.docker.container import DeviceRequest


def gpus(directory: Path, *names: str, kind: str = "nvidia.com/gpu") -> list[str]:
    devices = [{"name": name, "containerEdits": {"env": [f"GPU_{name}=1"]}} for name in names]
    document = {"cdiVersion": "0.5.0", "kind": kind, "devices": devices}
    (directory / f"{kind.replace('/', '-')}.json").write_text(json.dumps(document))
    return [str(directory)]


def chosen(request: DeviceRequest, directories: list[str]) -> list[str]:
    return [entry for edit in resolve([request], directories) for entry in edit.env or []]


def request(driver: str = "", count: int = 0, ids: list[str] | None = None, *words: str) -> DeviceRequest:
    return DeviceRequest(driver=driver, count=count, device_ids=ids, capabilities=[[*words, "gpu"]])


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (request(count=-1), ["GPU_all=1"]),
        (request(count=1), ["GPU_0=1"]),
        (request(count=2), ["GPU_0=1", "GPU_1=1"]),
        (request("nvidia", 0, ["1"], "compute", "utility"), ["GPU_1=1"]),
        (request(ids=["UUID-7"]), ["GPU_UUID-7=1"]),
    ],
)
def test_gpus_are_chosen_by_count_number_and_id(tmp_path: Path, wanted: DeviceRequest, names: list[str]) -> None:
    assert chosen(wanted, gpus(tmp_path, "0", "1", "UUID-7", "all")) == names


def test_all_gpus_are_each_of_them_where_no_device_of_that_name_is(tmp_path: Path) -> None:
    assert chosen(request(count=-1), gpus(tmp_path, "1", "0", kind="amd.com/gpu")) == ["GPU_0=1", "GPU_1=1"]


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (request(), r'could not select device driver "" with capabilities: \[\[gpu\]\]'),
        (request("nvidia"), r'could not select device driver "nvidia" with capabilities: \[\[gpu\]\]'),
        (DeviceRequest(driver="cdi"), r'could not select device driver "cdi" with capabilities: \[\]'),
    ],
)
def test_without_such_devices_or_with_cdi_off_no_driver_is_found(wanted: DeviceRequest, complaint: str) -> None:
    with pytest.raises(SystemFailure, match=complaint):
        resolve([wanted], [])


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (request("", 0, None, "nosuch"), r'could not select device driver "" with capabilities: \[\[nosuch gpu\]\]'),
        (request("amd"), 'could not select device driver "amd"'),
        (request(count=1, ids=["0"]), "cannot set both Count and DeviceIDs on device request"),
        (request(count=2), "unresolvable CDI devices nvidia.com/gpu=1"),
        (DeviceRequest(driver="cdi", count=1), "unexpected count in CDI device request"),
        (DeviceRequest(driver="cdi", options={"a": "b"}), "unexpected options in CDI device request"),
        (DeviceRequest(driver="cdi", device_ids=["x"]), "unresolvable CDI devices x"),
    ],
)
def test_wrong_requests_are_refused_in_dockers_words(tmp_path: Path, wanted: DeviceRequest, complaint: str) -> None:
    directories = gpus(tmp_path, "0")
    with pytest.raises(SystemFailure, match=complaint):
        resolve([wanted], directories)
