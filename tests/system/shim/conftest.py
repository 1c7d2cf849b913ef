"""A launcher, containers from a busybox root filesystem, and a client of the shim's protocol; no daemon."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.base import ids
from boxship.linux import cgroup as cgroups
from boxship.shim import launcher
from boxship.wire import frames, messages

DEADLINE = 30.0
DEFAULT_NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup")


class Control:
    """One control connection of a shim."""

    def __init__(self, sock: socket.socket, stack: contextlib.ExitStack) -> None:
        sock.settimeout(DEADLINE)
        self.sock = stack.enter_context(sock)
        self.events: list[dict[str, Any]] = []
        self._stack = stack
        self._seq = 0

    def request(self, op: str, fds: tuple[int, ...] = (), **fields: Any) -> dict[str, Any]:
        self._seq += 1
        messages.send(self.sock, {"op": op, "seq": self._seq, **fields}, fds)
        while True:
            message, _ = messages.receive(self.sock)
            if message.get("seq") == self._seq:
                return message
            self.events.append(message)

    def event(self, name: str) -> dict[str, Any]:
        for at, event in enumerate(self.events):
            if event["event"] == name:
                return self.events.pop(at)
        while True:
            message, _ = messages.receive(self.sock)
            if message.get("event") == name:
                return message
            self.events.append(message)

    def wait_closed(self) -> None:
        while True:
            try:
                message, _ = messages.receive(self.sock)
            except (EOFError, ConnectionResetError):
                return
            self.events.append(message)

    def attach(self, **fields: Any) -> Client:
        ours, theirs = socket.socketpair()
        with theirs:
            answer = self.request("attach", (theirs.fileno(),), **{"stdout": True, "stderr": True, **fields})
        assert answer["ok"], answer
        return self.client(ours)

    def exec(self, *args: str, client: bool = True, **fields: Any) -> tuple[dict[str, Any], Client | None]:
        process = fields.pop(
            "process", {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        )
        fields = {"exec_id": ids.new_id(), "process": process, "stdout": True, "stderr": True, **fields}
        if not client:
            return self.request("exec", **fields), None
        ours, theirs = socket.socketpair()
        with theirs:
            return self.request("exec", (theirs.fileno(),), **fields), self.client(ours)

    def client(self, sock: socket.socket) -> Client:
        return Client(self._stack.enter_context(sock))

    def close(self) -> None:
        self.sock.close()


class Client:
    """An attached client."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE)
        self.sock = sock
        self._decoder = frames.Decoder()
        self.raw = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def read_raw(self) -> bytes:
        """Everything until the end."""
        pieces = [self.raw]
        while piece := self.sock.recv(1 << 16):
            pieces.append(piece)
        self.raw = b""
        return b"".join(pieces)

    def read_until(self, text: bytes) -> bytes:
        while text not in self.raw:
            piece = self.sock.recv(1 << 16)
            assert piece, f"{text!r} never came: {self.raw!r}"
            self.raw += piece
        before, _, self.raw = self.raw.partition(text)
        return before + text

    def read(self) -> tuple[bytes, bytes]:
        """Standard output and standard error until the end."""
        streams: dict[int, list[bytes]] = {frames.STDOUT: [], frames.STDERR: []}
        for stream, payload in self._decoder.feed(self.read_raw()):
            streams[stream].append(payload)
        self._decoder.finish()
        return b"".join(streams[frames.STDOUT]), b"".join(streams[frames.STDERR])

    def close(self) -> None:
        self.sock.close()


class Container:
    """One start of one container."""

    def __init__(self, host: Host, start: dict[str, Any]) -> None:
        self.host = host
        self.start_document = start
        self.id: str = start["id"]
        self.state_dir = Path(start["state_dir"])
        self.log = Path(start["log"].get("path") or "/nonexistent")
        self.rootfs = Path(start["rootfs"]["target"])
        self.shim_pid = 0
        self.pidfd = -1
        self.control: Control

    def launch(self, clients: tuple[int, ...] = ()) -> Control:
        ours, theirs = socket.socketpair()
        with theirs:
            messages.send(self.host.launcher, {"op": "shim", "start": self.start_document}, [theirs.fileno(), *clients])
            answer, _ = messages.receive(self.host.launcher)
        assert answer["ok"], answer
        self.shim_pid = answer["pid"]
        self.control = Control(ours, self.host.stack)
        with contextlib.suppress(ProcessLookupError):  # a start that fails is quickly over
            self.pidfd = os.pidfd_open(self.shim_pid)
        return self.control

    def run(self) -> dict[str, Any]:
        """Start and wait for the end; return the exited or failed event."""
        control = self.launch()
        control.wait_closed()
        self.wait_shim()
        return control.events[-1]

    def connect(self) -> Control:
        """A new control connection, as a restarted daemon makes it."""
        sock = socket.socket(socket.AF_UNIX)
        directory = os.open(self.state_dir, os.O_PATH)
        try:
            sock.connect(f"/proc/self/fd/{directory}/shim.sock")
        finally:
            os.close(directory)
        return Control(sock, self.host.stack)

    def wait_shim(self) -> None:
        """Wait until the shim has ended."""
        if self.pidfd < 0:
            return
        assert wait_pidfd(self.pidfd), "the shim does not end"
        os.close(self.pidfd)
        self.pidfd = -1

    def left_behind(self) -> list[str]:
        """What remains on the host of this container."""
        left = [
            path
            for path in cgroups.open_cgroup(self.start_document["cgroup"]["path"]).paths().values()
            if os.path.exists(path)
        ]
        mounts = Path("/proc/self/mountinfo").read_text()
        if str(self.rootfs) in mounts:
            left.append(str(self.rootfs))
        if (self.state_dir / "shim.sock").exists():
            left.append("shim.sock")
        return left


def wait_pidfd(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(DEADLINE * 1000))


class Host:
    """The launcher's client."""

    def __init__(self, directory: Path, rootfs: Path, sock: socket.socket, pid: int) -> None:
        sock.settimeout(DEADLINE)
        self.directory = directory
        self.rootfs = rootfs
        self.launcher = sock
        self.launcher_pid = pid
        self.containers: list[Container] = []
        self.stack = contextlib.ExitStack()

    def request(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> tuple[dict[str, Any], list[int]]:
        messages.send(self.launcher, message, fds)
        return messages.receive(self.launcher)

    def container(self, *args: str, log: dict[str, Any] | None = None, **options: Any) -> Container:
        id = options.pop("id", None) or ids.new_id()
        home = self.directory / id
        for name in ("upper", "work", "merged"):
            (home / name).mkdir(parents=True, exist_ok=True)
        namespaces = options.pop("namespaces", DEFAULT_NAMESPACES)
        resources = options.pop("resources", {})
        start = {
            "id": id,
            "state_dir": str(home / "state"),
            "spec": {
                "ociVersion": "1.0.2",
                "hostname": id[:12],
                "root": {"path": str(home / "merged"), "readonly": False},
                "process": {
                    "args": list(args),
                    "cwd": "/",
                    "env": ["PATH=/bin", "TERM=xterm"],
                    "user": {"uid": options.pop("uid", 0), "gid": 0},
                    "capabilities": {},
                },
                "mounts": [
                    {
                        "destination": "/proc",
                        "type": "proc",
                        "source": "proc",
                        "options": ["nosuid", "noexec", "nodev"],
                    },
                    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                    {
                        "destination": "/dev/pts",
                        "type": "devpts",
                        "source": "devpts",
                        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
                    },
                ],
                "linux": {"namespaces": [{"type": name} for name in namespaces], "resources": resources},
            },
            "rootfs": {
                "type": "overlay",
                "lower": [str(self.rootfs)],
                "upper": str(home / "upper"),
                "work": str(home / "work"),
                "target": str(home / "merged"),
            },
            "stdio": {
                "tty": False,
                "stdin": False,
                "stdin_once": False,
                "console_size": None,
                **options.pop("stdio", {}),
            },
            "log": {"driver": "json-file", "path": str(home / "log.json"), "max_size": 0, "max_file": 1, **(log or {})},
            "seccomp": None,
            "cgroup": {"path": f"/boxship-test/{id}"},
            "runtime": options.pop("runtime", None),
            "attach": options.pop("attach", []),
        }
        assert not options, options
        container = Container(self, start)
        self.containers.append(container)
        return container


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem of one static program."""
    rootfs = tmp_path_factory.mktemp("rootfs")
    for name in ("bin", "proc", "dev", "tmp", "sys", "etc"):
        (rootfs / name).mkdir()
    rootfs.chmod(0o755)
    shutil.copy("/bin/busybox", rootfs / "bin/busybox")
    for name in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (rootfs / "bin" / name).symlink_to("busybox")
    return rootfs


@contextlib.contextmanager
def running_launcher() -> Iterator[tuple[socket.socket, int]]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(launcher.command(theirs.fileno()), pass_fds=[theirs.fileno()])
        try:
            yield ours, process.pid
        finally:
            ours.close()
            process.wait(DEADLINE)


@pytest.fixture
def host(tmp_path: Path, busybox: Path) -> Iterator[Host]:
    with running_launcher() as (sock, pid):
        host = Host(tmp_path, busybox, sock, pid)
        try:
            yield host
        finally:
            host.stack.close()
            for container in host.containers:
                if container.pidfd >= 0:
                    cgroup = cgroups.open_cgroup(container.start_document["cgroup"]["path"])
                    if cgroup.pids():
                        cgroup.kill(9)
                    container.wait_shim()
                assert container.left_behind() == []
            with contextlib.suppress(OSError):  # another run may be using it
                cgroups.open_cgroup("/boxship-test").remove(0.1)


@pytest.fixture
def wait_for():
    """Wait until a condition holds that no event announces."""

    def wait(condition, what: str = "condition") -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"{what} never held"
            time.sleep(0.005)

    return wait
