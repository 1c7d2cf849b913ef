"""A boxshipd under test: own network namespace, data root, exec root and socket."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import cgroups
from harness.netns import NetworkNamespace

SOURCE = Path(__file__).parents[2] / "src"


class Engine:
    """Starts and stops one daemon; containers, files and namespaces are gone after :meth:`close`."""

    def __init__(
        self, *, uplink: bool = False, options: Sequence[str] = (), namespace: NetworkNamespace | None = None
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="boxship-"))
        self.namespace = namespace or NetworkNamespace()
        self._own_namespace = namespace is None
        if uplink:
            self.namespace.add_uplink()
        self.options = list(options)
        self.cgroup_parent = "/boxship"
        self.socket = self.root / "boxship.sock"
        self.log = self.root / "boxshipd.log"
        self.environment: dict[str, str] = {}
        self.wrapper: list[str] = []  # words in front of the daemon's program
        (self.root / "daemon.json").write_text("{}")
        self.process: subprocess.Popen[bytes] | None = None

    def isolate_cgroups(self) -> None:
        """Give the containers a cgroup parent of their own, so that what other engines do does not count."""
        self.cgroup_parent = f"/boxship-{self.root.name.removeprefix('boxship-')}"
        self.options.append(f"--cgroup-parent={self.cgroup_parent}")

    def cgroups(self) -> list[str]:
        """Return the containers' cgroups that exist, in all hierarchies."""
        parents = cgroups.directories(self.cgroup_parent)
        return sorted(str(path) for parent in parents for path in parent.iterdir() if path.is_dir())

    @property
    def data_root(self) -> Path:
        return self.root / "data"

    @property
    def exec_root(self) -> Path:
        return self.root / "exec"

    @property
    def plugins(self) -> Path:
        """The directory where it looks for plugins."""
        return self.root / "plugins"

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def start(self, *, wait: bool = True) -> None:
        """Start the daemon and wait until it answers."""
        assert self.process is None
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPATH": str(SOURCE), **self.environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.namespace.prefix(),
                    *self.wrapper,
                    sys.executable,
                    "-c",
                    "import sys; from boxship.daemon.main import main; sys.exit(main())",
                    f"--host={self.host}",
                    f"--data-root={self.data_root}",
                    f"--exec-root={self.exec_root}",
                    f"--pidfile={self.root / 'boxshipd.pid'}",
                    f"--config-file={self.root / 'daemon.json'}",
                    f"--plugin-dir={self.plugins}",
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = 90) -> None:
        """Wait until the API answers; fail with the daemon's log when it ended."""
        assert self.process is not None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"boxshipd ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
            with contextlib.suppress(OSError, RuntimeError):
                if self.api("GET", "/_ping")[0] == 200:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"boxshipd does not answer:\n{self.log_text()[-4000:]}")

    def kill(self) -> None:
        """End the daemon as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def stop(self) -> int:
        """End the daemon cleanly and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process = None
        return code

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call the API; return status and decoded JSON or text."""
        import http.client
        import socket

        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        try:
            connection.sock.connect(str(self.socket))
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        with contextlib.suppress(ValueError):
            return response.status, json.loads(data)
        return response.status, data.decode(errors="replace")

    def docker(
        self, *args: str, check: bool = True, program: Sequence[str] = ("docker",), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a CLI against this engine, in its network namespace; text in, text out."""
        options.setdefault("timeout", 120)
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if options["stdin"] is None:
            del options["stdin"]
        result = subprocess.run(
            [*self.namespace.prefix(), *program, *args],
            capture_output=True,
            text=True,
            env=self.client_environment(),
            check=False,
            **options,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"{' '.join(args)}: exit {result.returncode}\n{result.stdout}{result.stderr}\n{self.log_text()[-3000:]}"
            )
        return result

    def boxship(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run our own CLI against this engine."""
        program = (sys.executable, "-c", "import sys; from boxship.cli.main import main; sys.exit(main())")
        return self.docker(*args, program=program, **options)

    def client_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.root / "config"),
            "PYTHONPATH": str(SOURCE),
        }

    def close(self) -> None:
        """Remove all containers, stop the daemon, remove its files; never leaves a process or mount, whatever failed.

        Raises AssertionError for what a clean end left of its own containers.
        """
        left: list[str] = []
        try:
            if self.process is None:
                self.start()
            elif self.process.poll() is not None:
                raise RuntimeError(f"boxshipd ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
            ids = [container["Id"] for container in self.api("GET", "/containers/json?all=1")[1]]
            for id in ids:
                self.api("DELETE", f"/containers/{id}?force=1&v=1")
            self.stop()
            left = self._left(ids)
        finally:
            if self.process is not None:
                self.process.kill()
                self.process.wait(10)
                self.process = None
            self._clear_remains()
            if self.cgroup_parent != "/boxship":
                for parent in cgroups.directories(self.cgroup_parent):
                    with contextlib.suppress(OSError):
                        parent.rmdir()
            if self._own_namespace:
                self.namespace.close()
            shutil.rmtree(self.root, ignore_errors=True)
        assert not left, f"left behind: {left}"

    def _left(self, ids: Sequence[str]) -> list[str]:
        """Return the traces of this engine that outlived it, after a moment for what ends in the background."""
        until = time.monotonic() + 10
        while True:
            mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            found = [
                f"mount {point}" for point in mounts if point.startswith(f"{self.root}/") and "/netns/" not in point
            ]
            found += [f"cgroup {path}" for id in ids for path in cgroups.directories(f"{self.cgroup_parent}/{id}")]
            found += [f"process {pid}" for pid in self._processes()] if self._own_namespace else []
            if not found or time.monotonic() > until:
                return found
            time.sleep(0.1)

    def _processes(self) -> list[int]:
        """Return the processes in the engine's network namespace, without the one that holds it."""
        inode = os.stat(self.namespace.path).st_ino
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and os.stat(entry / "ns/net").st_ino == inode:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != self.namespace.pid]

    def _clear_remains(self) -> None:
        """Undo what a daemon that failed its test left running."""
        for path in self.exec_root.glob("shims/*/state.json"):
            record = json.loads(path.read_text())
            for key in ("shim", ""):
                pid = record[f"{key}_pid" if key else "pid"]
                with contextlib.suppress(OSError):
                    if _start_time(pid) == record[f"{key}_start_time" if key else "pid_start_time"]:
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            for cgroup in cgroups.directories(record["cgroup"]):
                with contextlib.suppress(OSError):
                    cgroup.rmdir()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)


def _start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
