"""load, save, push and pull beside dockerd: the same docker CLI, archives and docker-registry in turn, medians and ratios."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness import image_memory
from harness.dockerd import Dockerd
from harness.engine import Engine
from harness.registry import PeerRegistry

Peer = Engine | Dockerd
Row = tuple[str, str, str, float, float | None]  # name, Boxship, dockerd, ratio, the ratio that must hold
Times = dict[tuple[str, str], list[float]]  # seconds by call and peer


class Case(NamedTuple):
    """One image."""

    name: str
    layers: int
    files: int  # of a layer
    size: int  # bytes of a file
    bars: dict[str, float]


CASES = [
    Case("30,000 files, 200 MB", 2, 15_000, 6_600, {"pull": 0.7, "push": 0.35, "load": 0.8, "save": 0.8}),
    Case("one file of 300 MB", 1, 1, 300_000_000, {"pull": 0.6, "push": 0.35, "load": 0.6, "save": 0.8}),
]
LARGE = Case("1 GB", 4, 5, 50_000_000, {})
TIMES = 5
GROWTH = 100  # MiB that boxshipd may grow by while it handles the large image


def layers_of(case: Case) -> list[bytes]:
    """Return tars of files of which one half can't be compressed and the other becomes three quarters."""
    source = random.Random(7)  # noqa: S311  # equal archives, no secrets
    noise = source.randbytes(32 << 20)
    words = b"".join(source.choices([source.randbytes(8) for _ in range(4096)], k=4 << 20))
    half = case.size // 2
    made = []
    for number in range(case.layers):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for index in range(case.files):
                start = (number * case.files + index) * 6151 % len(noise)
                add(archive, f"l{number}/{index // 100}/{index}", cut(noise, start, half) + cut(words, start, half))
        made.append(buffer.getvalue())
    return made


def cut(data: bytes, start: int, size: int) -> bytes:
    """Return part of ``data``, which goes on with its start behind its end."""
    part = data[start : start + size]
    while len(part) < size:
        part += data[: size - len(part)]
    return part


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Put a file into an archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_archive(path: Path, name: str, layers: list[bytes], blocks: int = 1) -> None:
    """Write what ``docker save`` would; every layer holds a file with the image's name, of so many ``blocks`` of a tar.

    With other blocks it is sure that no layer can be an earlier one, which an engine may see by the size.
    """
    stamp = io.BytesIO()
    with tarfile.open(fileobj=stamp, mode="w") as archive:
        add(archive, "stamp", name.encode().ljust(512 * blocks))
    start = stamp.getvalue()[: 512 * (1 + blocks)]
    diff_ids = []
    for layer in layers:
        hash = hashlib.sha256(start)
        hash.update(layer)
        diff_ids.append(f"sha256:{hash.hexdigest()}")
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    with tarfile.open(path, "w") as archive:
        for name_of_layer, layer in zip(names, layers, strict=True):
            add(archive, name_of_layer, start + layer)
        add(archive, "config.json", json.dumps(config).encode())
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
        add(archive, "manifest.json", json.dumps(manifest).encode())


@contextlib.contextmanager
def new_disk() -> Iterator[Path]:
    """Give an ext4 that no other process writes to: in a file, past whose filesystem's cache it reads and writes."""
    with tempfile.TemporaryDirectory(prefix="image-load-", dir="/var/tmp") as directory, contextlib.ExitStack() as undo:
        image, disk = Path(directory, "image"), Path(directory, "disk")
        disk.mkdir()
        with image.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 7 << 30)
        options = "nodiscard,lazy_itable_init=0"
        subprocess.run(["mkfs.ext4", "-q", "-E", options, "-N", "600000", image], check=True)
        attach = ["losetup", "--find", "--show", "--direct-io=on", image]
        device = subprocess.run(attach, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        try:
            subprocess.run(["mount", device, disk], check=True)
            # Lazily: a mount namespace that somebody made meanwhile has it too.
            undo.callback(subprocess.run, ["umount", "-l", disk], check=True)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)  # when nobody has it mounted any more
        yield disk


@contextlib.contextmanager
def peers() -> Iterator[tuple[Engine, Dockerd]]:
    """Give a new engine and a new dockerd, each on a disk of its own, in one network namespace.

    Files that were deleted shortly before make ext4 slow for the next ones, so nothing is removed before all was measured.
    """
    before = tempfile.tempdir
    with contextlib.ExitStack() as undo:
        undo.callback(setattr, tempfile, "tempdir", before)
        other, own = (undo.enter_context(new_disk()) for _ in range(2))
        tempfile.tempdir = str(other)
        theirs = Dockerd(["--bridge=none", "--iptables=false"])
        undo.callback(theirs.close)
        tempfile.tempdir = str(own)
        ours = Engine(namespace=theirs.namespace)
        undo.callback(ours.close)
        tempfile.tempdir = before
        theirs.start()
        ours.start()
        yield ours, theirs


def timed(peer: Peer, *words: str) -> float:
    """Run the docker CLI and return its seconds."""
    start = time.monotonic()
    command = [*peer.namespace.prefix(), "docker", *words]
    subprocess.run(command, env=peer.client_environment(), stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def measure_case(case: Case, times: int) -> Times:
    """Load, save and push ``times`` images of one kind with both, then let new ones of both pull what dockerd pushed."""
    seconds: Times = {}

    def note(call: str, peer: Peer, *words: str) -> None:
        seconds.setdefault((call, type(peer).__name__), []).append(timed(peer, *words))

    with new_disk() as disk:
        layers = layers_of(case)
        with peers() as (ours, theirs):
            registry = registry_on(disk, theirs)
            try:
                for number in range(times):
                    path = disk / "archive.tar"
                    write_archive(path, f"case:{number}", layers, 1 + number)
                    for peer in (theirs, ours):
                        name = f"{registry.host}/{type(peer).__name__.lower()}:{number}"
                        note("load", peer, "load", "-q", "-i", str(path))
                        note("save", peer, "save", f"case:{number}")
                        timed(peer, "tag", f"case:{number}", name)
                        note("push", peer, "push", "-q", name)
            finally:
                registry.stop()
        with peers() as (ours, theirs):
            registry.namespace = theirs.namespace
            registry.start()
            try:
                for number in range(times):
                    for peer in (theirs, ours):
                        note("pull", peer, "pull", "-q", f"{registry.host}/dockerd:{number}")
            finally:
                registry.stop()
    return seconds


def registry_on(disk: Path, peer: Peer) -> PeerRegistry:
    """Start docker-registry beside a peer, with its data on ``disk``."""
    before, tempfile.tempdir = tempfile.tempdir, str(disk)
    try:
        return PeerRegistry(peer.namespace)
    finally:
        tempfile.tempdir = before


def measure(times: int) -> list[Row]:
    """Return the rows of all cases and calls."""
    rows: list[Row] = []
    for case in CASES:
        seconds = measure_case(case, times)
        for call, bar in case.bars.items():
            mine, other = (statistics.median(seconds[call, peer]) for peer in ("Engine", "Dockerd"))
            rows.append((f"{call}: {case.name}", f"{mine:.2f} s", f"{other:.2f} s", mine / other, bar))
    return rows


def memory_growth() -> dict[str, int]:
    """Return by how many KiB boxshipd grows at most in each call with the large image."""
    with new_disk() as disk, peers() as (ours, _):
        registry = registry_on(disk, ours)
        try:
            path, name = disk / "archive.tar", f"{registry.host}/large:1"
            write_archive(path, name, layers_of(LARGE))
            return image_memory.growth(ours, path, name)
        finally:
            registry.stop()


def main() -> int:
    """Measure and print; the status tells whether all bars hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--without-memory", action="store_true", help="leave out the image of 1 GB")
    options = parser.parse_args()
    rows = measure(options.times)
    print("| docker CLI 28 | Boxship | dockerd 20.10 | ratio | bar |\n|---|---|---|---|---|")
    for name, mine, other, ratio, bar in rows:
        print(f"| {name} | {mine} | {other} | {ratio:.2f} | <= {bar} |")
    held = all(bar is None or ratio <= bar for *_, ratio, bar in rows)
    if not options.without_memory:
        grown = memory_growth()
        shown = ", ".join(f"{call} {kib >> 10} MiB" for call, kib in grown.items())
        print(f"\nThe daemon's memory grows, with an image of {LARGE.name}, by at most: {shown} (bar: {GROWTH} MiB).")
        held = held and max(grown.values()) <= GROWTH << 10
    print(f"\nMedians of {options.times}, in turn; load average {os.getloadavg()[0]:.1f}.")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
