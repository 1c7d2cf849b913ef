"""Builds of the Dockerfiles in ``tests/system/build/dockerfiles``, and what can be seen of the images they give.

``NN-name`` holds a Dockerfile and its context. ``Dockerfile.peer`` says the same in older words, where the builder of
dockerd 20.10 does not know the newer ones. ``recorded.json`` is what that builder made of them: ``scripts/builds --record``.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

HOME = Path(__file__).parents[1] / "system/build"
RECORDED = HOME / "recorded.json"
CASES = sorted(path.name for path in (HOME / "dockerfiles").iterdir())
BASE = "base"

_ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "rootfs.tar": bytes,
    "rootfs.tar.gz": lambda data: gzip.compress(data, mtime=0),
    "rootfs.tar.bz2": bz2.compress,
    "rootfs.tar.xz": lzma.compress,
}
# Made for each container, not of the image.
_INJECTED = (".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab")
_MOUNTED = ("dev", "proc", "sys")
# Ids of parents, and what later versions of the API left out.
_OWN = (
    "Image",
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
)


class Builder(Protocol):
    """An engine that the docker CLI can be run against."""

    def docker(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]: ...

    def client_environment(self) -> dict[str, str]: ...


def has_older_words(case: str) -> bool:
    return (HOME / "dockerfiles" / case / "Dockerfile.peer").exists()


def context(case: str, directory: Path, *, peer: bool) -> Path:
    """Copy a case's context into ``directory`` with the one Dockerfile to use, and make the archives that it names."""
    source = HOME / "dockerfiles" / case
    made = copied(source, directory)
    text = (source / ("Dockerfile.peer" if peer and has_older_words(case) else "Dockerfile")).read_text()
    (made / "Dockerfile").write_text(text)
    (made / "Dockerfile.peer").unlink(missing_ok=True)
    for name, compress in _ARCHIVES.items():
        if name in text:
            (made / name).write_bytes(compress(_rootfs()))
    return made


def copied(source: Path, directory: Path) -> Path:
    """Copy a context into ``directory``, with the modes that every checkout gives."""
    made = directory / source.name
    shutil.copytree(source, made, symlinks=True)
    for path in (made, *made.rglob("*")):
        if not path.is_symlink():  # whatever the checkout's umask was
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return made


def _rootfs() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, kind, data in (("etc", tarfile.DIRTYPE, b""), ("etc/os-release", tarfile.REGTYPE, b"ID=test\n")):
            entry = tarfile.TarInfo(path)
            entry.type, entry.size, entry.mode, entry.uid, entry.mtime = kind, len(data), 0o755, 7, 1_000_000_000
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def build(builder: Builder, directory: Path, name: str) -> None:
    """Build with the classic builder; AssertionError with its whole output when it fails."""
    done = subprocess.run(
        ["docker", "build", "--no-cache", "-t", name, str(directory)],
        env={**builder.client_environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(builder: Builder, name: str) -> dict[str, list[Any]]:
    """Return an image's files by path: type, mode, owner, link, device, attributes, digest of the content."""
    container = builder.docker("create", name, "none").stdout.strip()
    try:
        archive = subprocess.run(
            ["docker", "export", container],
            env=builder.client_environment(),
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
    finally:
        builder.docker("rm", "-v", container)
    return rows(archive)


def rows(archive: bytes) -> dict[str, list[Any]]:
    """Return what :func:`files` does for an exported container."""
    found: dict[str, list[Any]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = member.name.rstrip("/")
            if path in _INJECTED or path.partition("/")[0] in _MOUNTED:
                continue
            opened = tar.extractfile(member) if member.isreg() else None
            content = hashlib.sha256(opened.read()).hexdigest() if opened is not None else ""
            attributes = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")}
            found[path] = [
                *(member.type.decode(), oct(member.mode & 0o7777), member.uid, member.gid, member.linkname),
                *(member.devmajor, member.devminor, attributes, content),
            ]
    return found


def observe(builder: Builder, name: str, base: dict[str, list[Any]]) -> dict[str, Any]:
    """Return what is to be equal: files that the base image has not, those of it that are gone, configuration, history."""
    found = files(builder, name)
    return {
        **difference(found, base),
        "config": configuration(builder, name),
        "history": _history(builder, name),
    }


def difference(found: dict[str, list[Any]], base: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the files that the base image has not, and those of it that are gone."""
    return {
        "files": {path: row for path, row in sorted(found.items()) if base.get(path) != row},
        "gone": sorted(set(base) - set(found)),
    }


def recorded() -> dict[str, Any]:
    """Return what the real builder made of each case."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def configuration(builder: Builder, name: str) -> dict[str, Any]:
    """Return the fields of an image's configuration that an instruction can set."""
    document = json.loads(builder.docker("image", "inspect", name).stdout)[0]
    config = {key: value for key, value in document["Config"].items() if key not in _OWN and value}
    return {"Config": config, **{key: document.get(key, "") for key in ("Author", "Os", "Architecture")}}


def _history(builder: Builder, name: str) -> list[str]:
    """Return what ``history`` shows of each step, but for times, ids, checksums and sizes other than none."""
    shown = builder.docker(
        "history", "--no-trunc", "--human=false", "--format", "{{.CreatedBy}}|{{.Size}}", name
    ).stdout
    rows = (row.rpartition("|") for row in shown.splitlines())
    plain = ((re.sub(r"(file|dir|multi):[0-9a-f]{64}", r"\1", words), size) for words, _, size in rows)
    return [f"{words}|{'empty' if size == '0' else 'files'}" for words, size in plain]
