"""Builds by the classic API: its text, its cache, its failures, and what a killed client or daemon leaves."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

from harness import build_storm
from harness.engine import Engine
from harness.images import import_busybox
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def _context(directory: Path, dockerfile: str, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


def _build(engine: Engine, directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*engine.namespace.prefix(), "docker", "build", *flags, str(directory)],
        env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def _image(engine: Engine, name: str) -> str:
    return engine.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip()


def _text(done: subprocess.CompletedProcess[str]) -> str:
    """Return the classic builder's text with its ids replaced."""
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.partition("\n\n")[2]
    return re.sub(r"[0-9a-f]{12}\b", "ID", said.replace("\x1b[91m", "").replace("\x1b[0m", ""))


@pytest.mark.row("BLD-01")
@pytest.mark.row("BLD-02")
@pytest.mark.row("BLD-15")
def test_the_text_is_that_of_the_classic_builder(engine: Engine, tmp_path: Path) -> None:
    dockerfile = 'FROM busybox\nENV A=b\nRUN echo hi\nCOPY f /f\nWORKDIR /w\nCMD ["x"]\n'
    context = _context(tmp_path / "c", dockerfile, f="1")

    done = _build(engine, context, "-t", "said", "--build-arg", "Q=1")
    again = _build(engine, context, "-t", "said", "-t", "twice:2")

    assert _text(done) == (
        "Step 1/6 : FROM busybox\n ---> ID\n"
        "Step 2/6 : ENV A=b\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\n"
        "Step 3/6 : RUN echo hi\n ---> Running in ID\nhi\nRemoving intermediate container ID\n ---> ID\n"
        "Step 4/6 : COPY f /f\n ---> ID\n"
        "Step 5/6 : WORKDIR /w\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\n"
        'Step 6/6 : CMD ["x"]\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\n'
        "[Warning] One or more build-args [Q] were not consumed\n"
        "Successfully built ID\nSuccessfully tagged said:latest\n"
    )
    assert _text(again).count(" ---> Using cache\n") == 5
    assert _text(again).endswith("Successfully tagged said:latest\nSuccessfully tagged twice:2\n")
    assert _image(engine, "said") == _image(engine, "twice:2")


@pytest.mark.row("BLD-03")
@pytest.mark.row("BLD-04")
def test_a_build_ends_with_the_code_of_its_program_and_goes_on_from_there(engine: Engine, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", "FROM busybox\nRUN echo good > /good\nRUN exit 42\n")

    failed = _build(engine, context)
    kept = engine.docker("ps", "-aq", "--filter", "status=exited").stdout.split()
    forced = _build(engine, context, "--force-rm")
    left = engine.docker("ps", "-aq", "--filter", "status=exited").stdout.split()
    good = re.findall(r" ---> ([0-9a-f]{12})\n", failed.stdout)[-1]
    seen = engine.docker("run", "--rm", good, "cat", "/good").stdout
    _context(context, "FROM busybox\nRUN echo good > /good\nRUN true\n")
    repaired = _build(engine, context)

    assert failed.returncode == forced.returncode == 42
    assert "The command '/bin/sh -c exit 42' returned a non-zero code: 42" in failed.stderr
    assert len(kept) == 1 and left == kept
    assert "Removing intermediate container" in forced.stdout.rpartition("Running in")[2]
    assert seen == "good\n"
    assert _text(repaired).count("Using cache") == 1
    engine.docker("rm", *kept)


@pytest.mark.row("BLD-05")
def test_what_is_copied_counts_by_content_and_mode_and_not_by_time(engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox\nRUN echo 1 > /1\nCOPY index.html /www/\nRUN echo 2 > /2\n"
    context = _context(tmp_path / "c", dockerfile, **{"index.html": "one", "other": "1"})
    page = context / "index.html"
    assert _build(engine, context).returncode == 0

    os.utime(page, (1, 1))
    (context / "other").write_text("2")
    touched = _text(_build(engine, context))
    page.write_text("two")
    changed = _text(_build(engine, context))
    page.chmod(0o600)
    closed = _text(_build(engine, context))
    anew = _text(_build(engine, context, "--no-cache"))

    assert touched.count("Using cache") == 3
    assert changed.count("Using cache") == closed.count("Using cache") == 1
    assert anew.count("Using cache") == 0


@pytest.mark.row("BLD-24")
def test_stages_that_do_not_matter_are_skipped(engine: Engine, tmp_path: Path) -> None:
    dockerfile = (
        "FROM busybox AS tool\nRUN echo made > /made\nFROM busybox AS broken\nRUN exit 1\n"
        "FROM scratch\nCOPY --from=tool /made /bin/busybox /\n"
    )
    context = _context(tmp_path / "c", dockerfile)

    done = _build(engine, context, "-t", "small")
    tool = _build(engine, context, "-t", "tool", "--target", "tool")

    assert done.returncode == tool.returncode == 0, done.stderr
    assert engine.docker("run", "--rm", "small", "/busybox", "cat", "/made").stdout == "made\n"
    layers = json.loads(engine.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", "small").stdout)
    assert len(layers) == 1


@pytest.mark.row("BLD-10")
def test_mounts_of_a_step_leave_nothing_in_its_layer(engine: Engine, tmp_path: Path) -> None:
    dockerfile = (
        "FROM busybox\n"
        "RUN --mount=type=cache,target=/deep/cache --mount=type=tmpfs,target=/memory --mount=type=bind,target=/context "
        "echo 1 > /deep/cache/one && echo 2 > /memory/two && cp /context/f /copied\n"
        "RUN --mount=type=cache,target=/deep/cache cat /deep/cache/one\n"
        "RUN --mount=type=bind,from=busybox,source=/etc/passwd,target=/users,rw echo x >> /users; ls /\n"
    )
    context = _context(tmp_path / "c", dockerfile, f="text")

    done = _build(engine, context, "-t", "mounts")
    names = engine.docker("run", "--rm", "mounts", "ls", "/").stdout.split()

    assert done.returncode == 0, done.stderr
    assert "\n1\n" in done.stdout
    assert not {"deep", "memory", "context", "users"} & set(names)
    assert engine.docker("run", "--rm", "mounts", "cat", "/copied").stdout == "text"
    assert not list((engine.data_root / "build/scratch").iterdir())


@pytest.mark.row("BLD-31")
def test_the_same_inputs_and_epoch_give_the_same_image_on_two_engines(engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN mkdir /d && echo x > /d/f\nCOPY f /\nWORKDIR /w\n"
    context = _context(tmp_path / "c", dockerfile, f="1")
    other = Engine()
    try:
        other.start()
        saved = tmp_path / "base.tar"
        engine.docker("save", "-o", str(saved), "busybox")
        other.docker("load", "-i", str(saved))
        ids = []
        for each in (engine, other):
            os.utime(context / "f")
            done = _build(each, context, "-t", "equal", "--build-arg", "SOURCE_DATE_EPOCH=1700000000")
            assert done.returncode == 0, done.stderr
            ids.append(_image(each, "equal"))
    finally:
        other.close()

    assert ids[0] == ids[1]


def _running(engine: Engine) -> list[str]:
    return [row["Id"] for row in engine.api("GET", "/containers/json")[1]]


def test_a_client_that_leaves_ends_its_build(engine: Engine, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", "FROM busybox\nRUN echo done > /done\nRUN sleep 1000\n")
    before = {row["Id"] for row in engine.api("GET", "/containers/json?all=1")[1]}
    client = subprocess.Popen(
        [*engine.namespace.prefix(), "docker", "build", str(context)],
        env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    until(lambda: any("sleep" in row["Command"] for row in engine.api("GET", "/containers/json")[1]), 60)
    client.send_signal(signal.SIGKILL)
    client.wait(30)

    until(lambda: {row["Id"] for row in engine.api("GET", "/containers/json?all=1")[1]} == before, 60)
    _context(context, "FROM busybox\nRUN echo done > /done\nRUN true\n")
    assert _text(_build(engine, context)).count("Using cache") == 1


def test_a_killed_daemon_leaves_nothing_of_its_builds(tmp_path: Path) -> None:
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine)
        dockerfile = "FROM busybox\nRUN --mount=type=bind,target=/c --mount=type=cache,target=/k sleep 1000\n"
        context = _context(tmp_path / "c", dockerfile)
        client = subprocess.Popen(
            [*engine.namespace.prefix(), "docker", "build", str(context)],
            env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        until(lambda: bool(_running(engine)), 60)
        engine.kill()
        client.wait(30)
        engine.start()

        assert engine.api("GET", "/containers/json?all=1")[1] == []
        assert not list((engine.data_root / "build/scratch").iterdir())
        assert engine.boxship("system", "fsck").stdout == "nothing is wrong\n"
        _context(context, "FROM busybox\nRUN true\n")
        assert _build(engine, context).returncode == 0
    finally:
        engine.close()


@pytest.mark.row("BLD-32")
def test_the_cache_is_listed_pruned_and_outlives_its_images(engine: Engine, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", "FROM busybox\nRUN head -c 100000 /dev/zero > /zeros\n")
    assert _build(engine, context, "-t", "large").returncode == 0
    engine.docker("rmi", "large")

    listed = engine.api("GET", "/v1.41/system/df")[1]["BuildCache"]
    again = _text(_build(engine, context, "-t", "large"))
    engine.docker("rmi", "large")
    pruned = engine.docker("builder", "prune", "--all", "--force", check=False)
    after = engine.api("GET", "/v1.41/system/df")[1]["BuildCache"]

    assert any(row["Size"] == 100000 and not row["Shared"] for row in listed)
    assert again.count("Using cache") == 1
    assert pruned.returncode == 0, pruned.stderr
    assert after == []


def test_builds_that_are_cancelled_at_random_leave_nothing() -> None:
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine)
        build_storm.storm(engine, 10, random.Random(7))
    finally:
        engine.close()
