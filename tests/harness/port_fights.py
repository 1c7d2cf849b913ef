"""Two containers that want one port, over and over: they race, the winner ends in one of several ways, the next race begins.

Every tenth time a program of the host has the port, and neither container may get it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.engine import Engine
from harness.netns import entered
from harness.waiting import until

PORT = 8099
SECONDS = 60  # for a container to end or to answer


class Fights:
    """Counts how the races went; :meth:`race` raises AssertionError for one that went wrong."""

    def __init__(self, engine: Engine, image: str = "busybox") -> None:
        self.engine = engine
        self.outcomes: Counter[str] = Counter()
        binding = {"PortBindings": {"80/tcp": [{"HostPort": str(PORT)}]}}
        body = {"Image": image, "Cmd": ["busybox", "httpd", "-f", "-p", "80"], "HostConfig": binding}
        self.ids = [self._call("POST", "/containers/create", body)["Id"] for _ in range(2)]

    def race(self, number: int) -> None:
        """Let both start at once, and end what runs then."""
        if number % 10 == 9:
            self._lost_to_the_host()
            return
        with ThreadPoolExecutor(2) as clients:
            answers = list(clients.map(self._start, self.ids))
        assert sorted(status for status, _ in answers) == [204, 500], answers
        message = next(text for status, text in answers if status == 500)
        assert message.endswith(f"Bind for 0.0.0.0:{PORT} failed: port is already allocated"), message
        winner = self.ids[[status for status, _ in answers].index(204)]
        if number % 5 == 0:
            self._talk()
        self.outcomes[self._end(winner, number)] += 1

    def clear(self) -> None:
        """Remove the containers; raises AssertionError when the firewall still knows the port."""
        for id in self.ids:
            self._call("DELETE", f"/containers/{id}?force=1")
        rules = self.engine.namespace.run("nft", "list", "ruleset").stdout
        assert str(PORT) not in rules, rules

    def _lost_to_the_host(self) -> None:
        with entered(self.engine.namespace):
            program = socket.create_server(("0.0.0.0", PORT))
        with program, ThreadPoolExecutor(2) as clients:
            answers = list(clients.map(self._start, self.ids))
        assert [status for status, _ in answers] == [500, 500], answers
        assert all(text.endswith("address already in use") for _, text in answers), answers
        self.outcomes["lost to the host"] += 1

    def _talk(self) -> None:
        """Have a connection that the server closes, so that it stays in TIME_WAIT."""

        def answered() -> bool:
            with entered(self.engine.namespace):
                sock = socket.socket()
            with sock, contextlib.suppress(OSError):
                sock.settimeout(SECONDS)
                sock.connect(("127.0.0.1", PORT))
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return bool(sock.recv(100))
            return False

        until(answered, seconds=SECONDS)

    def _end(self, id: str, number: int) -> str:
        """End a container by a request, or by a signal from elsewhere to its first process."""
        if number % 2:
            self._call("POST", f"/containers/{id}/kill")
        else:
            os.kill(self._call("GET", f"/containers/{id}/json")["State"]["Pid"], signal.SIGKILL)
        self._call("POST", f"/containers/{id}/wait")
        return "killed by request" if number % 2 else "killed from outside"

    def _start(self, id: str) -> tuple[int, str]:
        status, answer = self.engine.api("POST", f"/containers/{id}/start")
        return status, answer["message"] if status >= 400 else ""

    def _call(self, method: str, path: str, body: object = None) -> Any:
        status, answer = self.engine.api(method, path, body)
        assert status < 400, (path, json.dumps(answer))
        return answer
