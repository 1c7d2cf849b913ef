"""What stats cost with many containers: single answers by clients of both kinds, and streams that many clients follow."""

from __future__ import annotations

import os
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.dockerd import Dockerd
from harness.engine import Engine

Peer = Engine | Dockerd

COUNT = 100  # containers
FOLLOWERS = 10  # clients, each with a stream for every container, as docker stats has it
SETTLE, MEASURE = 5.0, 10.0  # seconds of streaming before and while the processor time is measured
ANSWER_BAR, STREAM_BAR = 0.2, 5.0  # seconds for single answers; percent of a core for streams
TICKS = os.sysconf("SC_CLK_TCK")

Row = tuple[str, str, str, float, float | None]


def measure(
    ours: Engine, theirs: Dockerd, call: Callable[[Peer, tuple[str, ...]], float], pids: Callable[[Peer], list[int]]
) -> list[Row]:
    """Return rows of the table; ``call`` runs the docker CLI and gives seconds, ``pids`` are the processes of an engine."""
    names = [f"stats{number}" for number in range(COUNT)]
    cold, command, share, own = _of(ours, names, call, pids)
    their_cold, their_command, their_share, _ = _of(theirs, names, call, pids)
    rows: list[Row] = [
        (f"stats once, {COUNT} containers: API", *_times(cold, their_cold), None),
        (f"stats once, {COUNT} containers: docker CLI", *_times(command, their_command), None),
        (f"stats once, {COUNT} containers: boxship CLI", *_times(own, their_command), None),
        (
            f"{FOLLOWERS} x {COUNT} stats streams, of a core",
            f"{share:.1f} %",
            f"{their_share:.1f} %",
            share / max(their_share, 0.1),
            None,
        ),
    ]
    print(
        f"stats of {COUNT} containers: API {cold * 1000:.0f} ms, boxship CLI {own * 1000:.0f} ms (bar {ANSWER_BAR * 1000:.0f} ms),"
    )
    print(f"{FOLLOWERS} followers {share:.1f} % of a core (bar {STREAM_BAR:.0f} %)")
    return rows


def _of(
    peer: Peer, names: list[str], call: Callable[[Peer, tuple[str, ...]], float], pids: Callable[[Peer], list[int]]
) -> tuple[float, float, float, float]:
    """Return seconds of answers over the API and by the docker CLI, percent of a core for streams, seconds of our CLI."""
    with ThreadPoolExecutor(4) as starters:
        list(starters.map(lambda name: call(peer, _run(name)), names))
    try:
        return (
            statistics.median(_after_a_pause(lambda: answers(peer, names)) for _ in range(5)),
            statistics.median(call(peer, ("stats", "--no-stream")) for _ in range(5)),
            streams(peer, names, pids),
            statistics.median(_after_a_pause(lambda: _own_command(peer)) for _ in range(5))
            if isinstance(peer, Engine)
            else 0.0,
        )
    finally:
        call(peer, ("rm", "-f", *names))


def answers(peer: Peer, names: Iterable[str]) -> float:
    """Return the seconds until all of one request for each container are answered; they are sent together."""
    begun = time.perf_counter()
    open_ = [_ask(peer, f"/v1.41/containers/{name}/stats?stream=false") for name in names]
    for connection in open_:
        received = b""
        while b"\r\n\r\n" not in received or b"}\n" not in received[-16:]:
            piece = connection.recv(65536)
            if not piece:
                raise SystemExit(f"no stats: {received[-200:]!r}")
            received += piece
        connection.close()
    return time.perf_counter() - begun


def streams(peer: Peer, names: list[str], pids: Callable[[Peer], list[int]]) -> float:
    """Return the share of a core, in percent, that the engine spends while all streams are read."""
    connections = [_ask(peer, f"/v1.41/containers/{name}/stats") for name in names * FOLLOWERS]
    by_fd = {connection.fileno(): connection for connection in connections}
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)

        def drain(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for fd, _ in poll.poll(0.1):
                    by_fd[fd].recv(1 << 20)

        drain(SETTLE)
        before, begun = _cpu_seconds(pids(peer)), time.monotonic()
        drain(MEASURE)
        share = 100 * (_cpu_seconds(pids(peer)) - before) / (time.monotonic() - begun)
    for connection in connections:
        connection.close()
    return share


def _run(name: str) -> tuple[str, ...]:
    return ("run", "-d", "--name", name, "busybox", "sleep", "100000")


def _after_a_pause(work: Callable[[], float]) -> float:
    time.sleep(4)  # Boxship forgets earlier samples, and has to read twice again
    return work()


def _own_command(engine: Engine) -> float:
    begun = time.perf_counter()
    engine.boxship("stats", "--no-stream")
    return time.perf_counter() - begun


def _ask(peer: Peer, path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(peer.socket))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def _cpu_seconds(pids: Iterable[int]) -> float:
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def _times(mine: float, other: float) -> tuple[str, str, float]:
    return f"{mine * 1000:.0f} ms", f"{other * 1000:.0f} ms", mine / other
