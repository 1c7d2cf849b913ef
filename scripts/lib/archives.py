"""``load`` and ``save`` beside dockerd: the same docker CLI and archives in turn, medians, ratios and the daemon's memory."""

from __future__ import annotations

import argparse
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
from contextlib import contextmanager
from pathlib import Path

from harness.dockerd import Dockerd
from harness.engine import Engine

# name, layers, files of a layer, bytes of a file, the ratios of load and of save that must hold
CASES = [("30,000 files, 200 MB", 2, 15_000, 6_600, 0.8, 0.8), ("one file of 300 MB", 1, 1, 300_000_000, 0.6, 0.8)]


def layer(files: int, size: int, top: str) -> bytes:
    """Return a tar whose content compresses to about two thirds."""
    source = random.Random(7)  # noqa: S311  # equal archives, no secrets
    words = [source.randbytes(8) for _ in range(4096)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(files):
            half = size // 2
            add(
                archive,
                f"{top}/{number // 100}/{number}",
                source.randbytes(half) + b"".join(source.choices(words, k=half // 8)),
            )
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Put a file into an archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_archive(path: Path, name: str, layers: list[bytes]) -> None:
    """Write what ``docker save`` would."""
    diff_ids = ["sha256:" + hashlib.sha256(each).hexdigest() for each in layers]
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    with tarfile.open(path, "w") as archive:
        for name_of_layer, content in zip(names, layers, strict=True):
            add(archive, name_of_layer, content)
        add(archive, "config.json", json.dumps(config).encode())
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
        add(archive, "manifest.json", json.dumps(manifest).encode())


@contextmanager
def disk_in_memory() -> Iterator[Path]:
    """Give an ext4 that no other process writes to."""
    with tempfile.TemporaryDirectory(prefix="archives-") as directory:
        memory, disk = Path(directory, "memory"), Path(directory, "disk")
        memory.mkdir()
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6g", "tmpfs", memory], check=True)
        try:
            with (memory / "image").open("wb") as file:
                file.truncate(5 << 30)
            subprocess.run(
                ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", "-N", "400000", memory / "image"], check=True
            )
            subprocess.run(["mount", "-o", "loop", memory / "image", disk], check=True)
            try:
                yield disk
            finally:
                subprocess.run(["umount", disk], check=True)
        finally:
            subprocess.run(["umount", memory], check=True)


def timed(peer: Engine | Dockerd, *words: str) -> float:
    """Run the docker CLI and return its seconds."""
    start = time.monotonic()
    environment = peer.client_environment()
    subprocess.run(["docker", *words], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def main() -> int:
    """Measure and print; the status tells whether all ratios hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    held = True
    with disk_in_memory() as disk:
        tempfile.tempdir = str(disk)
        ours, theirs = Engine(), Dockerd()
        try:
            ours.start()
            theirs.start()
            assert ours.process is not None
            print("| what | dockerd | Boxship | ratio | wanted |\n|---|---|---|---|---|")
            for name, layers, files, size, load_limit, save_limit in CASES:
                path = disk / "archive.tar"
                write_archive(path, "case:1", [layer(files, size, f"l{number}") for number in range(layers)])
                seconds: dict[tuple[str, object], list[float]] = {}
                for _ in range(times):
                    for peer in (theirs, ours):
                        seconds.setdefault(("load", peer), []).append(timed(peer, "load", "-q", "-i", str(path)))
                        seconds.setdefault(("save", peer), []).append(timed(peer, "save", "case:1"))
                        timed(peer, "rmi", "case:1")
                for call, limit in (("load", load_limit), ("save", save_limit)):
                    docker, boxship = (statistics.median(seconds[call, peer]) for peer in (theirs, ours))
                    ratio = boxship / docker
                    held = held and ratio <= limit
                    print(f"| {call}: {name} | {docker:.2f} s | {boxship:.2f} s | {ratio:.2f} | {limit} |", flush=True)
            status = Path(f"/proc/{ours.process.pid}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            print(
                f"\nmost memory of boxshipd: {int(peak.split()[1]) // 1024} MiB; load average {os.getloadavg()[0]:.1f}"
            )
        finally:
            ours.close()
            theirs.close()
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
