"""``stats``: the use of CPU, memory, network and disks by containers, once or again and again."""

from __future__ import annotations

import os
from select import POLLIN, poll

from boxship.cli.command import STDOUT, Command
from boxship.cli.flags import TABLE_FORMAT, Flag
from boxship.cli.table import Listing, short_id
from boxship.cli.units import binary_size, decimal_size
from boxship.client import jsontext
from boxship.client.engine import quote
from boxship.client.errors import ApiError, ClientError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values
    from boxship.client.engine import BodyReader

    Sample = dict[str, Any]  # what the rows show: figures, or None where nothing came yet

INTERVAL = 500  # milliseconds between two pictures
NO_VALUE = "--"
CLEAR = "\x1b[H"  # to the upper left; each line erases its rest, the last what is below

FLAGS = (
    Flag("all", "bool", "Show all containers", short="a", shown="(default shows just running)"),
    TABLE_FORMAT,
    Flag("no-stream", "bool", "Disable streaming stats and only pull the first result"),
    Flag("no-trunc", "bool", "Do not truncate output"),
)


def sample(name: str, id: str, stats: dict[str, Any]) -> Sample:
    """Return the figures of one answer of ``/containers/{id}/stats`` (an empty one gives zeros)."""
    memory = stats.get("memory_stats") or {}
    used = memory_used(memory)
    limit = memory.get("limit") or 0
    networks = (stats.get("networks") or {}).values()
    read, written = disk_bytes((stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or [])
    return {
        "Container": name,
        "Name": (stats.get("name") or "").removeprefix("/"),
        "ID": stats.get("id") or id,
        "cpu": cpu_percent(stats.get("precpu_stats") or {}, stats.get("cpu_stats") or {}),
        "memory": used,
        "limit": limit,
        "memory_percent": used / limit * 100 if limit else 0.0,
        "received": sum(network.get("rx_bytes") or 0 for network in networks),
        "sent": sum(network.get("tx_bytes") or 0 for network in networks),
        "read": read,
        "written": written,
        "pids": (stats.get("pids_stats") or {}).get("current") or 0,
    }


def cpu_percent(previous: dict[str, Any], now: dict[str, Any]) -> float:
    """Return the use of CPU between two readings; 100 is one CPU."""
    system = (now.get("system_cpu_usage") or 0) - (previous.get("system_cpu_usage") or 0)
    usage, before = now.get("cpu_usage") or {}, previous.get("cpu_usage") or {}
    used = (usage.get("total_usage") or 0) - (before.get("total_usage") or 0)
    cpus = now.get("online_cpus") or len(usage.get("percpu_usage") or [])
    return used / system * cpus * 100 if system > 0 and used > 0 else 0.0


def memory_used(memory: dict[str, Any]) -> int:
    """Return the memory in use without the page cache that is given up first (cgroup v1 and v2 name it differently)."""
    usage = int(memory.get("usage") or 0)
    details = memory.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):
        if name in details and details[name] < usage:
            return usage - int(details[name])
    return usage


def disk_bytes(entries: list[dict[str, Any]]) -> tuple[int, int]:
    """Return the bytes read and written."""
    totals = {"r": 0, "w": 0}
    for entry in entries:
        letter = (entry.get("op") or " ")[0].lower()
        if letter in totals:
            totals[letter] += entry.get("value") or 0
    return totals["r"], totals["w"]


def listing(*, truncate: bool) -> Listing:
    """Return how figures are listed."""

    def known(make: Any) -> Any:
        return lambda s: make(s) if "cpu" in s else NO_VALUE

    fields = {
        "Container": ("CONTAINER", lambda s: s["Container"]),
        "ID": ("CONTAINER ID", lambda s: short_id(s["ID"]) if truncate else s["ID"]),
        "Name": ("NAME", lambda s: s["Name"] or NO_VALUE),
        "CPUPerc": ("CPU %", known(lambda s: f"{s['cpu']:.2f}%")),
        "MemUsage": ("MEM USAGE / LIMIT", lambda s: _memory(s)),
        "MemPerc": ("MEM %", known(lambda s: f"{s['memory_percent']:.2f}%")),
        "NetIO": ("NET I/O", known(lambda s: f"{decimal_size(s['received'], 3)} / {decimal_size(s['sent'], 3)}")),
        "BlockIO": ("BLOCK I/O", known(lambda s: f"{decimal_size(s['read'], 3)} / {decimal_size(s['written'], 3)}")),
        "PIDs": ("PIDS", known(lambda s: str(s["pids"]))),
    }
    names = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
    return Listing("*formatter.statsContext", fields, names)


def _memory(sample: Sample) -> str:
    if "cpu" not in sample:
        return f"{NO_VALUE} / {NO_VALUE}"
    return f"{binary_size(sample['memory'])} / {binary_size(sample['limit'])}"


def run(session: Session, values: Values) -> int:
    """Show figures once with --no-stream, else until the user stops or every named container is gone."""
    names, all = values.arguments, values.is_set("all")
    shown = listing(truncate=not values.is_set("no-trunc"))
    format = values.text("format") or session.config.text("statsFormat")
    together = None if names else _together(session, all=all, stream=not values.is_set("no-stream"))
    if values.is_set("no-stream"):
        if together is not None:
            shown.show(session, _pictured(together.read()), format)
            return 0
        samples, status = _once(session, names or running(session, all=all))
        if not samples and status:
            return status
        shown.show(session, samples, format)
        return status
    follower: _Follower | _FollowerOfAll
    if together is not None:
        follower = _FollowerOfAll(together)
    else:
        follower = _Follower(session, follow=not names, all=all)
        for name in names or running(session, all=all):
            follower.add(name)
    terminal = os.isatty(STDOUT)
    while True:
        samples = follower.wait()
        if terminal:
            session.out(CLEAR)
        shown.show(session, samples, format)
        if terminal:
            session.out("\x1b[J")
        if not samples and names:
            return 1


def running(session: Session, *, all: bool = False) -> list[str]:
    """Return the IDs of the containers that run."""
    found = session.engine.json("GET", "/containers/json", {"all": True} if all else {}) or []
    return [container["Id"] for container in found]


def _together(session: Session, *, all: bool, stream: bool) -> BodyReader | None:
    """Ask Boxship's own call for the figures of all containers at once; None from an engine that does not have it."""
    try:
        return session.engine.stream("GET", "/boxship/stats", {"all": all, "stream": stream})
    except NotFoundError:
        return None


def _pictured(line: bytes) -> list[Sample]:
    """Return the figures in an answer of that call; as Docker has it, the containers are called by their IDs."""
    return [sample(short_id(each["id"]), each["id"], each) for each in jsontext.loads(line)]


def _once(session: Session, names: list[str]) -> tuple[list[Sample], int]:
    """Ask for two readings of each at the same time: Docker takes a second for them."""
    readers: list[tuple[str, BodyReader]] = []
    status = 0
    for name in names:
        try:
            readers.append((name, session.engine.stream("GET", f"/containers/{quote(name)}/stats", {"stream": False})))
        except ApiError as exc:
            session.error(str(exc))
            status = 1
    samples = [sample(_shown_name(name), name, jsontext.loads(reader.read() or b"{}")) for name, reader in readers]
    return samples, status


def _shown_name(name: str) -> str:
    return short_id(name) if len(name) == 64 else name


class _FollowerOfAll:
    """The stream of the figures of all containers."""

    def __init__(self, reader: BodyReader) -> None:
        self._lines = reader.lines()

    def wait(self) -> list[Sample]:
        """Return the next figures. Raises ClientError when the engine went away."""
        line = next(self._lines, None)
        if line is None:
            raise ClientError("the engine ended the stream")
        return _pictured(line)


class _Follower:
    """The streams of figures of some containers, and the newest figures of each."""

    def __init__(self, session: Session, *, follow: bool, all: bool) -> None:
        self._session = session
        self._follow = follow  # containers that start meanwhile join in
        self._all = all
        self._poll = poll()
        self._streams: dict[int, tuple[str, BodyReader, bytes]] = {}
        self._samples: dict[str, Sample] = {}

    def add(self, name: str) -> None:
        """Begin to follow one container; an error is printed."""
        try:
            reader = self._session.engine.stream("GET", f"/containers/{quote(name)}/stats", {"stream": True})
        except ApiError as exc:
            self._session.error(str(exc))
            return
        self._samples[name] = {"Container": _shown_name(name), "ID": name, "Name": ""}
        descriptor = reader.fileno()
        self._streams[descriptor] = (name, reader, b"")
        self._poll.register(descriptor, POLLIN)

    def wait(self) -> list[Sample]:
        """Return the newest figures after a moment."""
        for descriptor, _ in self._poll.poll(INTERVAL):
            self._read(descriptor)
        if self._follow:
            known = set(self._samples)
            for name in running(self._session, all=self._all):
                if name not in known:
                    self.add(name)
        return list(self._samples.values())

    def _read(self, descriptor: int) -> None:
        name, reader, rest = self._streams[descriptor]
        try:
            piece = reader.read_some()
        except ClientError:
            piece = b""
        if not piece:
            self._poll.unregister(descriptor)
            del self._streams[descriptor], self._samples[name]
            return
        *lines, rest = (rest + piece).split(b"\n")
        self._streams[descriptor] = (name, reader, rest)
        if lines:
            self._samples[name] = sample(_shown_name(name), name, jsontext.loads(lines[-1]))


COMMANDS = {"container stats": Command("[OPTIONS] [CONTAINER...]", run, FLAGS, most=None)}
