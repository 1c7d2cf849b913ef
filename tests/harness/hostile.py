"""What attack tests share: hostile images, containers driven over the plain API, and looks at what they could have hurt."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import socket
import struct
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.engine import Engine
from harness.images import busybox_tar

JSON = {"Content-Type": "application/json"}


def rounds(suite: int) -> int:
    """Return how often to try a race: ``suite`` times, or what BOXSHIP_ATTACK_ROUNDS says (see scripts/attack)."""
    return int(os.environ.get("BOXSHIP_ATTACK_ROUNDS", suite))


class Result(NamedTuple):
    """What became of a container; ``code`` is None when it did not start, then ``text`` says why."""

    code: int | None
    text: str


def connect(engine: Engine) -> http.client.HTTPConnection:
    """Return a connection to the engine's socket."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(engine.socket))
    return connection


def call(engine: Engine, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Call the API; ``body`` is a JSON document or bytes. Return status and the raw answer."""
    with contextlib.closing(connect(engine)) as connection:
        if isinstance(body, bytes):
            connection.request(method, path, body, {"Content-Type": "application/x-tar"})
        else:
            connection.request(method, path, None if body is None else json.dumps(body), JSON if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def create(engine: Engine, image: str, *words: str, host: Mapping[str, Any] | None = None, **config: Any) -> str:
    """Create a container and return its id; an AssertionError tells the engine's refusal."""
    body = {"Image": image, "Cmd": list(words) or None, "HostConfig": dict(host or {}), **config}
    status, answer = call(engine, "POST", "/containers/create", body)
    assert status == 201, answer.decode()
    return str(json.loads(answer)["Id"])


def run(engine: Engine, image: str, *words: str, host: Mapping[str, Any] | None = None, **config: Any) -> Result:
    """Run a container to its end, remove it, and return its exit code and output."""
    body = {"Image": image, "Cmd": list(words) or None, "HostConfig": dict(host or {}), **config}
    status, answer = call(engine, "POST", "/containers/create", body)
    if status != 201:
        return Result(None, json.loads(answer)["message"])
    id = json.loads(answer)["Id"]
    try:
        status, answer = call(engine, "POST", f"/containers/{id}/start")
        if status != 204:
            return Result(None, json.loads(answer)["message"])
        code = json.loads(call(engine, "POST", f"/containers/{id}/wait")[1])["StatusCode"]
        return Result(code, output(engine, id, tty=bool(config.get("Tty"))))
    finally:
        call(engine, "DELETE", f"/containers/{id}?force=1&v=1")


def start(engine: Engine, image: str, *words: str, host: Mapping[str, Any] | None = None, **config: Any) -> str:
    """Start a container in the background and return its id."""
    id = create(engine, image, *words, host=host, **config)
    status, answer = call(engine, "POST", f"/containers/{id}/start")
    assert status == 204, answer.decode()
    return id


def output(engine: Engine, id: str, *, tty: bool = False) -> str:
    """Return what a container wrote."""
    data = call(engine, "GET", f"/containers/{id}/logs?stdout=1&stderr=1")[1]
    return (data if tty else unframed(data)).decode(errors="replace")


def exec_(engine: Engine, id: str, *words: str, **config: Any) -> Result:
    """Run a program in a container and return its exit code and output; the code is None when it did not start."""
    body = {"Cmd": list(words), "AttachStdout": True, "AttachStderr": True, **config}
    status, answer = call(engine, "POST", f"/containers/{id}/exec", body)
    assert status == 201, answer.decode()
    exec_id = json.loads(answer)["Id"]
    status, data = call(engine, "POST", f"/exec/{exec_id}/start", {"Detach": False})
    text = (data if config.get("Tty") else unframed(data)).decode(errors="replace")
    until(lambda: not inspect_exec(engine, exec_id)["Running"])
    found = inspect_exec(engine, exec_id)
    return Result(found["ExitCode"] if found["Pid"] else None, text)


def inspect_exec(engine: Engine, id: str) -> dict[str, Any]:
    """Return the exec's document."""
    return json.loads(call(engine, "GET", f"/exec/{id}/json")[1])


def inspect(engine: Engine, id: str) -> dict[str, Any]:
    """Return the container's document."""
    status, answer = call(engine, "GET", f"/containers/{id}/json")
    assert status == 200, answer.decode()
    return json.loads(answer)


def remove(engine: Engine, *ids: str) -> None:
    """Remove containers by force."""
    for id in ids:
        status, answer = call(engine, "DELETE", f"/containers/{id}?force=1&v=1")
        assert status in (204, 404), answer.decode()


def unframed(data: bytes) -> bytes:
    """Return the content of attach frames."""
    found, at = [], 0
    while at + 8 <= len(data):
        (size,) = struct.unpack(">xxxxI", data[at : at + 8])
        found.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return b"".join(found)


def until(holds: Callable[[], object], explain: Callable[[], object] = str, seconds: float = 30) -> None:
    """Wait until ``holds()`` is true; the bound only detects hangs."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"that did not happen in time {explain()}"
        time.sleep(0.02)


# archives


def entry(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return a tar entry: a file unless ``type`` says otherwise."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o755
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return a symbolic link's entry."""
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return a directory's entry."""
    return entry(name, type=tarfile.DIRTYPE)


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return an archive of the entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def busybox_without(*top: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Return the entries of the busybox root filesystem that do not lie at or below the ``top`` names."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(busybox_tar())) as archive:
        for info in archive:
            if not any(info.name == name or info.name.startswith(f"{name}/") for name in top):
                file = archive.extractfile(info) if info.isfile() else None
                found.append((info, file.read() if file else b""))
    return found


def archive(
    config: Mapping[str, Any],
    layers: Iterable[bytes],
    name: str,
    *,
    diff_ids: list[str] | None = None,
    document: bytes | None = None,
) -> bytes:
    """Return a ``docker load`` archive of one image; ``document`` replaces the whole configuration document."""
    pieces = list(layers)
    ids = diff_ids or [f"sha256:{hashlib.sha256(piece).hexdigest()}" for piece in pieces]
    if document is None:
        document = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": dict(config),
                "rootfs": {"type": "layers", "diff_ids": ids},
            }
        ).encode()
    files = [entry("config.json", document)]
    files += [entry(f"layer{n}.tar", piece) for n, piece in enumerate(pieces)]
    rows = [
        {
            "Config": "config.json",
            "RepoTags": [f"{name}:latest"],
            "Layers": [f"layer{n}.tar" for n in range(len(pieces))],
        }
    ]
    files.append(entry("manifest.json", json.dumps(rows).encode()))
    return tar(files)


def load(engine: Engine, data: bytes) -> str:
    """Load an archive and return what the engine said, errors too."""
    status, answer = call(engine, "POST", "/images/load?quiet=1", data)
    return f"{status} {answer.decode(errors='replace')}"


def bring(engine: Engine, name: str, data: bytes, *changes: str) -> str:
    """Import a root filesystem as an image and return what the engine said, errors too."""
    from urllib.parse import quote

    query = "".join(f"&changes={quote(change)}" for change in changes)
    status, answer = call(engine, "POST", f"/images/create?fromSrc=-&repo={name}&tag=latest{query}", data)
    return f"{status} {answer.decode(errors='replace')}"


# what could have been hurt


@contextlib.contextmanager
def unchanged(place: Path) -> Iterator[Path]:
    """Give a directory with a few files outside of everything; fail if anything in it changed."""
    place.mkdir()
    (place / "file").write_bytes(b"untouched")
    (place / "sub").mkdir()
    (place / "sub" / "deep").write_bytes(b"untouched too")
    before = picture(place)
    yield place
    assert picture(place) == before


def picture(place: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return names, modes, owners and content of a tree."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_uid, path.read_bytes() if path.is_file() else b"")
        for path in sorted(place.rglob("*"))
    }


def mounts(prefix: Path | str) -> list[str]:
    """Return the mount points of the host at or below ``prefix``."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point == str(prefix) or point.startswith(f"{prefix}/")]


def daemon_pid(engine: Engine) -> int:
    """Return the process id of boxshipd itself."""
    return int((engine.root / "boxshipd.pid").read_text())


def children(pid: int) -> list[int]:
    """Return the processes whose parent is ``pid``."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def shim_state(engine: Engine, id: str) -> dict[str, Any]:
    """Return the record that a container's shim keeps of itself."""
    return json.loads((engine.exec_root / "shims" / id / "state.json").read_text())
