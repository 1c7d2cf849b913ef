"""``docker cp`` beside what the real Docker does with the same words, and files of every kind through it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness import copies
from harness.dockerd import Dockerd
from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(int(os.environ.get("BOXSHIP_COPY_TIMEOUT", "180")))]

# Each so many-th case of the tables; prime, so that all sources and destinations come up. `scripts/copies` takes all of them.
STEP = int(os.environ.get("BOXSHIP_COPY_STEP", "17"))
# A link to a directory, named with a slash at its end, is a directory: Docker's CLI stumbles over its own link there.
BETTER = {((), "dir/.", "ldir/"), ((), "ldir/.", "ldir/")}
CAPABILITY = b"\x01\0\0\2\0\4".ljust(20, b"\0").decode()


def docker_of(peer: Dockerd, *args: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        ["docker", *args],
        capture_output=True,
        text=True,
        env=peer.client_environment(),
        check=check,
        timeout=120,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.row("RUN-30")
def test_every_kind_of_source_goes_to_every_kind_of_destination_as_with_docker(
    engine: Engine, dockerd: Dockerd, tmp_path: Path
) -> None:
    uploads = copies.UPLOADS[::STEP]
    downloads = [case for case in copies.DOWNLOADS if case not in BETTER][::STEP]
    sources = tmp_path / "sources"
    sources.mkdir()
    copies.make_sources(sources, str(sources))
    inside = tmp_path / "s"
    inside.mkdir()
    copies.make_sources(inside, "/s")
    results = []
    for name, cli in (
        ("theirs", lambda *args, **options: docker_of(dockerd, *args, **options)),
        ("ours", engine.docker),
        ("mine", engine.boxship),
    ):
        cli("run", "-d", "--name", name, "busybox", "sleep", "100000")
        cli("cp", str(inside), f"{name}:/")
        if name == "mine":
            cli("kill", name)  # the files of a stopped container come from elsewhere
        there = copies.upload(cli, name, sources, uploads)
        back = copies.download(cli, name, tmp_path / name, downloads)
        results.append((there, back))
    for found in results[1:]:
        for (outcomes, files), (expected, expected_files), cases in zip(
            found, results[0], (uploads, downloads), strict=True
        ):
            assert dict(enumerate(zip(cases, outcomes, strict=True))) == dict(
                enumerate(zip(cases, expected, strict=True))
            )
            assert files == expected_files


def odd_files() -> bytes:
    """Return a tar of ``odd``: all types, names, owners, times and attributes that an archive can hold."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:

        def add(name: str, type: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.mode, entry.mtime = type, len(data), 0o644, 1_700_000_000
            for field, value in fields.items():
                setattr(entry, field, value)
            tar.addfile(entry, io.BytesIO(data))

        add("odd", tarfile.DIRTYPE, mode=0o755)
        add("odd/fifo", tarfile.FIFOTYPE, mode=0o600)
        add("odd/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        add("odd/loop", tarfile.BLKTYPE, devmajor=7, devminor=200, mode=0o660, gid=6)
        add("odd/first", data=b"linked", uid=70_000, gid=70_001)
        add("odd/second", tarfile.LNKTYPE, linkname="odd/first", uid=70_000, gid=70_001)
        add("odd/" + "n" * 255, data=b"long")
        deep = "odd"
        for _ in range(12):
            deep = f"{deep}/{'d' * 60}"
            add(deep, tarfile.DIRTYPE, mode=0o755)
        add(f"{deep}/deep", data=b"deep")
        add("odd/longlink", tarfile.SYMTYPE, linkname="/" + "x/" * 150 + "y", mode=0o777)
        add(os.fsdecode(b"odd/\xff\xfe latin \xe9"), data=b"bytes")
        add(os.fsdecode(b"odd/badlink"), tarfile.SYMTYPE, linkname=os.fsdecode(b"\xff"), mode=0o777)
        add("odd/ünïcode ☃", data=b"utf")
        add("odd/huge", data=b"x", uid=2**32 - 2, gid=4_000_000_000)
        add("odd/suid", data=b"s", mode=0o6755)
        add("odd/sticky", tarfile.DIRTYPE, mode=0o1777)
        add("odd/old", mtime=1)
        add("odd/future", mtime=5_000_000_000)
        add("odd/capable", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})
        add("odd/trusted", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"})
    return buffer.getvalue()


def entries(data: bytes) -> dict[str, tuple[object, ...]]:
    """Return everything about the entries of a tar that a user can see."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        return {
            entry.name: (
                (
                    entry.type,
                    entry.mode & 4095,
                    entry.uid,
                    entry.gid,
                    entry.size,
                    entry.linkname,
                    entry.devmajor,
                    entry.devminor,
                    int(entry.mtime),
                    *tuple(item for item in entry.pax_headers.items() if item[0].startswith("SCHILY")),
                )
            )
            for entry in tar
        }


def host_entries(top: Path) -> dict[str, tuple[object, ...]]:
    """Return the same of files on this machine."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, others in os.walk(top):
        for path in (os.path.join(directory, name) for name in (*names, *others)):
            status = os.lstat(path)
            attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in _attributes(path)}
            found[os.path.relpath(path, top)] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_nlink,
                status.st_rdev,
                0 if os.path.isdir(path) else status.st_size,
                int(status.st_mtime),
                *tuple(attributes.items()),
            )
    return found


def _attributes(path: str) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def tar_bytes(peer: Engine | Dockerd, *args: str, data: bytes | None = None) -> bytes:
    """Run the docker CLI with bytes in and out."""
    given = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        ["docker", *args], capture_output=True, env=peer.client_environment(), timeout=120, check=False, **given
    )
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


@pytest.mark.row("RUN-30", "RUN-31", "API-11")
def test_files_of_every_kind_pass_as_with_docker(engine: Engine, dockerd: Dockerd, tmp_path: Path) -> None:
    results: list[dict[str, object]] = []
    for peer in (dockerd, engine):
        docker_of(peer, "run", "-d", "--name", "odd", "busybox", "sleep", "100000")
        tar_bytes(peer, "cp", "-", "odd:/", data=odd_files())
        docker_of(peer, "exec", "odd", "sh", "-c", "truncate -s 9000000 /odd/sparse; touch -d @7 /odd/sparse /odd")
        host = tmp_path / peer.root.name
        host.mkdir()
        docker_of(peer, "cp", "-a", "odd:/odd", str(host))
        docker_of(peer, "pause", "odd")
        tar_bytes(peer, "cp", str(host / "odd"), "odd:/back")
        back = tar_bytes(peer, "cp", "odd:/back", "-")
        docker_of(peer, "unpause", "odd")
        one = ("fifo", "null", "second", "longlink", "badlink", "capable")
        results.append(
            {
                "out": entries(tar_bytes(peer, "cp", "odd:/odd", "-")),
                "host": host_entries(host),
                "back": entries(back),
                "one": [entries(tar_bytes(peer, "cp", f"odd:/odd/{name}", "-")) for name in one],
                "diff": sorted(tar_bytes(peer, "diff", "odd").splitlines()),
            }
        )
    for key, expected in results[0].items():
        assert results[1][key] == expected, key
    raw = os.fsdecode(b"\xff\xfe latin \xe9")  # of which Docker gives an empty archive
    assert list(entries(tar_bytes(engine, "cp", f"odd:/odd/{raw}", "-"))) == [raw]


@pytest.mark.row("RUN-30")
def test_sockets_are_left_out_of_a_copy(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/file").write_text("beside a socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "volume/socket"))
        engine.docker("create", "--name", "odd", "-v", f"{tmp_path}/volume:/d", "busybox")
        engine.docker("cp", "odd:/d", str(tmp_path))
    assert sorted(os.listdir(tmp_path / "d")) == ["file"]
