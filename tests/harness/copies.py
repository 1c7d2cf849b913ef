"""``docker cp`` with every kind of source to every kind of destination, and what it leaves, to compare engines by.

A case is flags, a source and a destination; names that end in ``/`` or ``/.`` are meant so. Every case has a directory of its
own, ``c/<number>``, made beforehand with the same things in it.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

Case = tuple[tuple[str, ...], str, str]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Outcome = tuple[int, str]
Files = dict[str, tuple[bytes | int, int, str, bytes]]

UPLOADS: list[Case] = [
    *itertools.product(
        [()],
        [
            "file",
            "file/",
            "dir",
            "dir/",
            "dir/.",
            "dir/sub/..",
            "lfile",
            "ldir",
            "ldir/",
            "ldir/.",
            "broken",
            "none",
            "fifo",
            "named:file",
        ],
        [
            "file",
            "file/",
            "file/.",
            "file/new",
            "dir",
            "dir/",
            "dir/.",
            "dir/../up",
            "new",
            "new/",
            "new/.",
            "lfile",
            "ldir",
            "ldir/",
            "ldir/.",
            "labs",
            "broken",
            "broken/",
            "deep",
            "none/new",
            "none/new/",
        ],
    ),
    *itertools.product(
        [("-L",)],
        ["file", "lfile", "ldir", "ldir/", "ldir/.", "broken", "none"],
        ["file", "dir", "new", "ldir", "broken", "new/"],
    ),
]
DOWNLOADS: list[Case] = [
    *itertools.product(
        [()],
        [
            "file",
            "file/",
            "file/.",
            "dir",
            "dir/",
            "dir/.",
            "dir/..",
            "dir/../file",
            "lfile",
            "lfile/",
            "ldir",
            "ldir/",
            "ldir/.",
            "labs",
            "labs/",
            "broken",
            "broken/",
            "none",
            "none/",
            "deep",
        ],
        [
            "file",
            "file/",
            "file/new",
            "dir",
            "dir/",
            "dir/.",
            "new",
            "new/",
            "new/.",
            "lfile",
            "ldir",
            "ldir/",
            "broken",
            "deep",
            "none/new",
        ],
    ),
    *itertools.product(
        [("-L",)],
        ["file", "lfile", "ldir", "ldir/", "labs", "broken", "none"],
        ["file", "dir", "new", "ldir", "broken", "new/"],
    ),
]
LINKS = (("lfile", "file"), ("ldir", "dir"), ("broken", "nowhere"), ("deep", "no/where"))
# The CLI's own race with a pipe, and where an engine keeps its files, are nobody's output.
_NOISE = re.compile(r"^time=.*\n", re.MULTILINE)
_INSIDE = re.compile(r"lstat \S*?/merged(/\S*)")


def destinations(count: int, place: str) -> bytes:
    """Return a tar of ``c/0`` ... with what a case finds at its destination; ``place`` is where ``c`` will lie."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(count):
            top = f"c/{number}"
            for name in (top, f"{top}/dir"):
                _add(tar, name, tarfile.DIRTYPE, mode=0o755)
            _add(tar, f"{top}/file", data=b"old")
            _add(tar, f"{top}/dir/kept", data=b"kept")
            for name, target in (*LINKS, ("labs", f"{place}/{top}/dir")):
                _add(tar, f"{top}/{name}", tarfile.SYMTYPE, linkname=target, mode=0o777)
    return buffer.getvalue()


def make_sources(directory: Path, place: str) -> None:
    """Make what is copied in ``directory``, which will lie at ``place``."""
    (directory / "dir/sub").mkdir(parents=True)
    (directory / "dir/sub/deep").write_text("deep")
    (directory / "file").write_text("hello")
    (directory / "named:file").write_text("colon")
    os.mkfifo(directory / "fifo")
    for name, target in (*LINKS, ("labs", f"{place}/dir")):
        (directory / name).symlink_to(target)


def upload(cli: Cli, container: str, sources: Path, cases: Sequence[Case]) -> tuple[list[Outcome], Files]:
    """Carry out the cases into the container; return what each said, and all that is there afterwards."""
    with (sources.parent / "destinations.tar").open("w+b") as file:
        file.write(destinations(len(cases), ""))
        file.seek(0)
        cli("cp", "-", f"{container}:/", stdin=file)
    outcomes = []
    for number, (flags, source, destination) in enumerate(cases):
        result = cli("cp", *flags, f"{sources}/{source}", f"{container}:/c/{number}/{destination}", check=False)
        outcomes.append((result.returncode, _words(result.stderr, container, f"/c/{number}/")))
    found = sources.parent / f"{container}.tar"
    cli("export", "-o", str(found), container)
    with tarfile.open(found) as tar:
        files: Files = {
            entry.name: (entry.type, entry.mode & 0o7777, entry.linkname, _data(tar, entry))
            for entry in tar
            if entry.name.startswith("c/")
        }
    return outcomes, files


def download(cli: Cli, container: str, target: Path, cases: Sequence[Case]) -> tuple[list[Outcome], Files]:
    """Carry out the cases from ``/s`` of the container into ``target``; return what each said, and all files there."""
    target.mkdir()
    subprocess.run(["tar", "x"], input=destinations(len(cases), str(target)), cwd=target, check=True)
    outcomes = []
    for number, (flags, source, destination) in enumerate(cases):
        result = cli("cp", *flags, f"{container}:/s/{source}", f"{target}/c/{number}/{destination}", check=False)
        outcomes.append((result.returncode, _words(result.stderr, container, f"{target}/c/{number}/")))
    files: Files = {}
    for directory, names, others in os.walk(target):
        for path in (Path(directory, name) for name in (*names, *others)):
            mode = path.lstat().st_mode
            link = os.readlink(path).replace(str(target), "") if path.is_symlink() else ""
            data = path.read_bytes() if path.is_file() and not link else b""
            files[str(path.relative_to(target))] = (mode >> 12, mode & 0o7777, link, data)
    return outcomes, files


def _words(text: str, container: str, own: str) -> str:
    """Return what the CLI said, without what differs from one engine and one case to the next."""
    text = _INSIDE.sub(r"lstat \1", _NOISE.sub("", text)).replace(container, "box").replace(own, "/c/N/")
    return text.replace("/s/lfile/", "/s/file/")  # Docker names the link's target here


def _add(tar: tarfile.TarFile, name: str, type: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = type, len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    tar.addfile(entry, io.BytesIO(data))


def _data(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry) if entry.isreg() else None
    return file.read() if file else b""
