"""Builds whose client leaves at random moments; afterwards nothing is left and the next build is right."""

from __future__ import annotations

import http.client
import io
import random
import socket
import sys
import tarfile
import tempfile
from pathlib import Path

from harness.engine import Engine
from harness.images import import_busybox
from harness.waiting import until

LONGEST = 0.6  # seconds until a client leaves; a whole build takes about as long


def _context(number: int) -> bytes:
    """Return a build of two stages at once with mounts, which no earlier round has in the cache."""
    dockerfile = (
        f"FROM busybox AS one\nRUN --mount=type=cache,target=/k echo {number} >> /k/log; echo {number} > /one\n"
        f"FROM busybox AS two\nCOPY file /file\nRUN --mount=type=bind,target=/c cp /c/file /two\n"
        "FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /file /\n"
    )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in (("Dockerfile", dockerfile), ("file", f"{number}" * 1000)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive.getvalue()


def build(engine: Engine, number: int, seconds: float | None, tag: str = "") -> str:
    """Build and return what was said; with ``seconds`` the client leaves then."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(seconds or 120)
    connection.sock.connect(str(engine.socket))
    try:
        connection.request(
            "POST", f"/build?rm=1&forcerm=1&t={tag}", _context(number), {"Content-Type": "application/x-tar"}
        )
        return connection.getresponse().read().decode()
    except TimeoutError:
        return ""
    finally:
        connection.close()


def storm(engine: Engine, rounds: int, chance: random.Random) -> None:
    """Cancel ``rounds`` builds at random moments. AssertionError for whatever they leave."""
    for number in range(rounds):
        build(engine, number, chance.uniform(0.001, LONGEST))
    until(lambda: engine.api("GET", "/containers/json?all=1")[1] == [], 60)
    until(lambda: not list((engine.data_root / "build/scratch").iterdir()), 60)
    last = build(engine, rounds, None, "last")
    assert "Successfully tagged last:latest" in last, last
    exported = Path(tempfile.mkdtemp(dir=engine.root)) / "last.tar"
    id = engine.docker("create", "last", "none").stdout.strip()
    engine.docker("export", "-o", str(exported), id)
    engine.docker("rm", id)
    with tarfile.open(exported) as tar:
        for name, text in (("one", f"{rounds}\n"), ("two", f"{rounds}" * 1000), ("file", f"{rounds}" * 1000)):
            opened = tar.extractfile(name)
            assert opened is not None and opened.read().decode() == text
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{engine.root}/data" in line]
    # Layers of a thousand builds on a busy machine take their time.
    assert engine.boxship("system", "fsck", timeout=1800).stdout == "nothing is wrong\n"


def main() -> int:
    """Run the storm that the command line asks for, in an engine of its own."""
    rounds = int(sys.argv[1])
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine)
        storm(engine, rounds, random.Random(rounds))
    finally:
        engine.close()
    print(f"{rounds} builds were cancelled: nothing is left, the next one is right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
