"""C6 where archives do not become layers: unpacked into containers, and as build contexts."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness import hostile
from harness.engine import Engine
from harness.hostile_archives import archives, tricks

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

OUTSIDE = Path(tempfile.gettempdir()) / f"boxship-outside-{os.getpid()}"  # known before the archives are drawn
PLACES = ["/t", "/t/out", "/t/kept", "/t/a", "/t/b/c", "/volume", "/memory", "/proc", "/"]
SETTINGS = settings(
    max_examples=20,
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=["running", "stopped"])
def container(engine: Engine, request: pytest.FixtureRequest) -> Iterator[str]:
    """A container with a volume and a tmpfs, and with links out of its root."""
    host = {"Binds": ["archives:/volume"], "Tmpfs": {"/memory": ""}}
    id = hostile.start(engine, "busybox", "sleep", "1000000", host=host)
    script = f"mkdir /t && ln -s {OUTSIDE} /t/out && ln -s / /t/kept && ln -s /proc/1/root{OUTSIDE} /t/a"
    assert hostile.exec_(engine, id, "sh", "-c", script).code == 0
    if request.param == "stopped":
        assert hostile.call(engine, "POST", f"/containers/{id}/kill")[0] == 204
        hostile.until(lambda: not hostile.inspect(engine, id)["State"]["Running"])
    yield id
    if request.param == "stopped":
        assert hostile.call(engine, "POST", f"/containers/{id}/start")[0] == 204
    assert hostile.exec_(engine, id, "echo", "alive").text == "alive\n"
    hostile.remove(engine, id)
    assert hostile.call(engine, "DELETE", "/volumes/archives")[0] == 204


@pytest.fixture
def outside() -> Iterator[dict[str, tuple[int, int, bytes]]]:
    """The picture of OUTSIDE, which must stay as it is."""
    OUTSIDE.mkdir()
    (OUTSIDE / "kept").write_bytes(b"kept")
    (OUTSIDE / "file").write_bytes(b"kept too")
    try:
        yield hostile.picture(OUTSIDE)
    finally:
        shutil.rmtree(OUTSIDE)


def put(engine: Engine, id: str, path: str, data: bytes, query: str = "") -> tuple[int, str]:
    """Unpack an archive in a container; return status and text."""
    status, answer = hostile.call(engine, "PUT", f"/containers/{id}/archive?path={path}{query}", data)
    assert "Traceback" not in engine.log_text(), engine.log_text()[-3000:]
    return status, "" if status == 200 else json.loads(answer)["message"]


@pytest.mark.parametrize("query", ["", "&noOverwriteDirNonDir=1&copyUIDGID=1"])
def test_c6_tricks_stay_inside_the_container(
    engine: Engine, container: str, outside: dict[str, tuple[int, int, bytes]], query: str
) -> None:
    for name, data in tricks(OUTSIDE).items():
        status, said = put(engine, container, "/t", data, query)
        assert status in (200, 400, 500), (name, status, said)
        assert not (name.startswith("bad") and status == 200), name
        assert hostile.picture(OUTSIDE) == outside, name


@SETTINGS
@given(path=st.sampled_from(PLACES), data=archives(str(OUTSIDE)))
def test_c6_nothing_outside_the_container_changes(
    engine: Engine, container: str, outside: dict[str, tuple[int, int, bytes]], path: str, data: bytes
) -> None:
    put(engine, container, path, data)
    assert hostile.picture(OUTSIDE) == outside


def build(engine: Engine, data: bytes, way: str) -> str:
    """Build an image from a context that is the archive, or of one that ADD unpacks; return what was said."""
    words = {"context": b"COPY . /copied/", "add": b"ADD inner.tar /added/"}[way]
    files = [hostile.entry("Dockerfile", b"FROM scratch\n" + words)]
    if way == "add":
        context = hostile.tar([*files, hostile.entry("inner.tar", data)])
    else:
        context = data[: -(-len(data.rstrip(b"\0")) // 512) * 512] + hostile.tar(files)
    status, answer = hostile.call(engine, "POST", "/build?t=built&nocache=1", context)
    assert "Traceback" not in engine.log_text(), engine.log_text()[-3000:]
    assert status in (200, 400, 500), answer
    return answer.decode(errors="replace")


@pytest.mark.parametrize("way", ["context", "add"])
def test_c6_tricks_in_builds_stay_inside(engine: Engine, outside: dict[str, tuple[int, int, bytes]], way: str) -> None:
    for name, data in tricks(OUTSIDE).items():
        said = build(engine, data, way)
        taken = "Successfully built" in said
        assert not (name.startswith("bad") and taken and way == "context"), (name, said)
        assert hostile.picture(OUTSIDE) == outside, name
        assert "kept too" not in said
        if taken:
            assert hostile.call(engine, "DELETE", "/images/built")[0] == 200
    assert hostile.call(engine, "POST", "/build/prune?all=1")[0] == 200
    hostile.until(
        lambda: len(list(engine.data_root.glob("overlay2/*"))) == 2
    )  # of busybox, and of what mounts cover in it


@SETTINGS
@given(way=st.sampled_from(["context", "add"]), data=archives(str(OUTSIDE)))
def test_c6_nothing_outside_a_build_changes(
    engine: Engine, outside: dict[str, tuple[int, int, bytes]], way: str, data: bytes
) -> None:
    build(engine, data, way)
    assert hostile.picture(OUTSIDE) == outside
