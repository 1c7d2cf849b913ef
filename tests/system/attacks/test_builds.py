"""Hostile Dockerfiles and contexts: B1 to B6 of the faults that builders had."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Engine
from harness.images import import_busybox

RACES = int(os.environ.get("BOXSHIP_RACES", "300"))  # how often a directory becomes a link and back

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    engine.environment["HOST_ONLY"] = "value-of-the-host"
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


def _build(
    engine: Engine, dockerfile: str, *, links: dict[str, str] | None = None, secrets: dict[str, bytes] | None = None
) -> list[dict[str, Any]]:
    """Build and return the messages."""
    before = json.dumps({id: base64.b64encode(value).decode() for id, value in (secrets or {}).items()}).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(120)
    connection.sock.connect(str(engine.socket))
    try:
        headers = {"Content-Type": "application/x-tar", "X-Boxship-Secrets": str(len(before))}
        connection.request("POST", "/build?nocache=1&forcerm=1", before + archive.getvalue(), headers)
        answer = connection.getresponse().read().decode()
    finally:
        connection.close()
    return [json.loads(line) for line in answer.splitlines()]


def _said(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("stream", "") for message in messages)


def _error(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1].get("error", messages[-1].get("message", "")))


def test_b1_a_cache_that_another_step_turns_into_a_link_shows_nothing_of_the_host(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "host-marker").write_text("x")
    cache = "RUN --mount=type=cache,id=race,target=/k"
    link = f"rm -rf /k/sub; ln -s {tmp_path} /k/sub; rm /k/sub; mkdir /k/sub"
    swap = f"FROM busybox\n{cache} i=0; while [ $i -lt {RACES} ]; do {link}; i=$((i+1)); done\n"
    look = "FROM busybox\nRUN --mount=type=cache,id=race,target=/m,source=sub ls /m\n"
    _build(engine, f"FROM busybox\n{cache} mkdir -p /k/sub\n")
    ended: list[list[dict[str, Any]]] = []
    swaps = threading.Thread(target=lambda: ended.append(_build(engine, swap)))

    swaps.start()
    looks = [_build(engine, look)]
    while swaps.is_alive():
        looks.append(_build(engine, look))
    swaps.join()

    assert _error(ended[0]) == ""
    assert not [look for look in looks if "host-marker" in _said(look)]


def test_b2_a_place_of_a_mount_that_became_a_link_deletes_nothing(engine: Engine, tmp_path: Path) -> None:
    victim = tmp_path / "empty"
    victim.mkdir()
    replace = f"mkdir -p /x && mv /x /y && mkdir -p {tmp_path} && ln -s {tmp_path} /x; true"
    dockerfile = (
        f"FROM busybox\nRUN --mount=type=cache,target=/x/empty {replace}\nRUN ls -ld /x /y && test ! -e /y/empty/kept\n"
    )

    messages = _build(engine, dockerfile)

    assert "error" not in messages[-1], _error(messages)
    assert victim.is_dir()


def test_b3_privileges_are_not_the_dockerfiles_to_give(engine: Engine) -> None:
    insecure = _build(engine, "FROM busybox\nRUN --security=insecure true\n")
    host = _build(engine, "FROM busybox\nRUN --network=host true\n")
    unknown = _build(engine, "FROM busybox\nRUN --security=Insecure true\n")

    assert _error(insecure) == "security.insecure is not allowed"
    assert _error(host) == "network.host is not allowed"
    assert _error(unknown)


@pytest.mark.parametrize("source", ["../../../../../etc/shadow", "/etc/shadow", "out/shadow", "up"])
def test_b4_what_a_mount_shows_is_the_contexts(engine: Engine, source: str) -> None:
    links = {"out": "/etc", "up": "../../../../../../etc/shadow"}
    dockerfile = f"FROM busybox\nRUN --mount=type=bind,target=/m,source={source} cat /m\n"

    messages = _build(engine, dockerfile, links=links)

    assert _error(messages).endswith("file does not exist")


def test_b5_a_dockerfile_that_is_a_link_out_of_the_context_is_not_read(engine: Engine) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, kind in (("Dockerfile", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    for name in ("Dockerfile", "pipe", "../../../etc/passwd"):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(str(engine.socket))
        connection.request("POST", f"/build?dockerfile={name}", archive.getvalue())
        answer = connection.getresponse()
        assert (answer.status, "Cannot locate specified Dockerfile" in answer.read().decode()) == (500, True)
        connection.close()


@pytest.mark.parametrize("remote", ["ext::sh -c id", "--upload-pack=id", "https://x/.git#--output=/x"])
def test_b5_a_repository_is_no_option_and_no_command(engine: Engine, remote: str) -> None:
    dockerfile = f'FROM busybox\nADD ["{remote if "git" in remote else remote + ".git"}", "/x/"]\n'

    assert _error(_build(engine, dockerfile))


def test_b6_a_secret_is_nowhere_but_in_the_step(engine: Engine) -> None:
    value = b"s3cr3t-" + b"0123456789abcdef" * 2
    dockerfile = (
        "FROM busybox\n"
        "RUN --mount=type=secret,id=token wc -c < /run/secrets/token; ls -l /run/secrets\n"
        "RUN --mount=type=secret,id=token,env=TOKEN,required=true echo ${#TOKEN}; env | grep HOST_ONLY; true\n"
        "RUN test ! -s /run/secrets/token\n"
    )

    messages = _build(engine, dockerfile, secrets={"token": value})

    assert "error" not in messages[-1], _error(messages)
    assert _said(messages).count(f"{len(value)}\n") == 2
    assert "value-of-the-host" not in _said(messages)
    for root in (engine.data_root, engine.exec_root, engine.log):
        files = [root] if root.is_file() else root.rglob("*")
        assert not [path for path in files if _holds(path, value)]


def _holds(path: Path, value: bytes) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and value in path.read_bytes()
    except OSError:  # a namespace, or gone meanwhile
        return False
