"""An image of very many files: how long it takes, and what it costs the daemon's memory (C6)."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from boxship.linux import mount
from harness import hostile
from harness.engine import Engine

_PER_DIRECTORY = 1000
_PIECE = 1 << 20


def entries(count: int) -> Iterator[bytes]:
    """Yield an archive of ``count`` empty files in directories of a thousand, in pieces of a megabyte."""
    piece = bytearray()
    for number in range(count):
        header = bytearray(512)
        name = b"%d/%d" % (number // _PER_DIRECTORY, number)
        header[: len(name)] = name
        header[100:148] = b"0000644\0" + b"0000000\0" * 2 + b"00000000000\0" * 2
        header[148:157] = b"        0"
        header[257:265] = b"ustar\x0000"
        header[148:156] = b"%06o\0 " % sum(header)
        piece += header
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + bytes(1024)


def measure(engine: Engine, count: int, say: Callable[[str], None]) -> None:
    """Import such an image, save, load and remove it; say seconds and how far the daemon's memory rose in each."""
    engine_words = [*engine.namespace.prefix(), "docker"]

    def do(what: str, words: list[str], feed: Callable[[IO[bytes]], None] | None = None) -> None:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts anew, see proc(5)
        before, began = _memory(pid, "VmRSS"), time.monotonic()
        stdin = subprocess.DEVNULL if feed is None else subprocess.PIPE
        process = subprocess.Popen(
            [*engine_words, *words], stdin=stdin, stdout=subprocess.DEVNULL, env=engine.client_environment()
        )
        if feed is not None:
            assert process.stdin is not None
            feed(process.stdin)
            process.stdin.close()
        assert process.wait() == 0, what
        say(f"{what}: {time.monotonic() - began:.0f} s, memory {before} + {_memory(pid, 'VmHWM') - before} MiB")

    def archive(stream: IO[bytes]) -> None:
        for piece in entries(count):
            stream.write(piece)

    pid = hostile.daemon_pid(engine)
    saved = str(engine.data_root / "saved.tar")
    do(f"import of {count:,} files", ["import", "-", "many"], archive)
    do("save", ["save", "-o", saved, "many"])
    do("rmi", ["rmi", "many"])
    do("load", ["load", "-q", "-i", saved])
    do("rmi", ["rmi", "many"])


def _memory(pid: int, field: str) -> int:
    """Return a field of the process's status in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field))) >> 10


def main(count: int) -> int:
    """Measure once on an engine of its own, whose disk is memory; return an exit code."""
    with tempfile.TemporaryDirectory(prefix="boxship-many-") as disk:
        mount.mount("tmpfs", disk, "tmpfs", 0, "mode=0711,nr_inodes=0")
        try:
            engine = Engine()
            engine.data_root.symlink_to(disk)
            try:
                engine.start()
                measure(engine, count, lambda line: print(line, flush=True))
            finally:
                engine.close()
        finally:
            mount.umount2(disk, mount.MNT_DETACH)
    return 0
