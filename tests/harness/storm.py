"""Many containers that all end in one moment, each with an exit code of its own."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.engine import Engine

BYSTANDERS = 3
CLIENTS = 4  # at the same time
SIGKILLED = 137


class Storm:
    """``count`` containers that wait for one pipe; between them others that must not notice anything."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.engine = engine
        self.count = count
        self._gate = engine.root / "gate"
        self._gate.mkdir()
        os.mkfifo(self._gate / "pipe")
        self._codes: dict[str, int] = {}
        self._bystanders: dict[str, tuple[int, str]] = {}

    def start(self) -> None:
        """Start them all; return when each waits for the pipe."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            self._codes = dict(clients.map(self._start_one, range(self.count)))
        for number in range(BYSTANDERS):
            id = self._run(f"bystander{number}", ["sleep", "100000"])
            self._bystanders[id] = self._identity(id)

    def let_go(self) -> tuple[dict[str, int], dict[str, int], float]:
        """Open the gate and kill every tenth container in the same moment, as an impatient user would.

        Return the exit codes that must be, those that ``wait`` told, and the seconds that it took until all were told.
        """
        ended: dict[str, int] = {}
        accepted: dict[str, bool] = {}
        with contextlib.ExitStack() as stack:
            clients = stack.enter_context(ThreadPoolExecutor(CLIENTS))
            # Readers come to the pipe only when somebody writes: open it, wait until nobody is missing, then close it.
            writer = os.open(self._gate / "pipe", os.O_RDWR)
            begun = time.perf_counter()
            killer = threading.Thread(target=lambda: accepted.update(self._kill_each_tenth()))
            killer.start()
            os.write(writer, b"\n" * self.count)
            ended.update(clients.map(self._wait_one, self._codes))
            taken = time.perf_counter() - begun
            killer.join()
            os.close(writer)
        wanted = {
            id: ended[id] if accepted.get(id) and ended[id] == SIGKILLED else code for id, code in self._codes.items()
        }
        return wanted, ended, taken

    def shown(self) -> dict[str, int]:
        """Return the exit codes that inspect shows of those that ended."""
        states = {id: self.engine.api("GET", f"/containers/{id}/json")[1]["State"] for id in self._codes}
        assert Counter(state["Status"] for state in states.values()) == {"exited": self.count}
        return {id: state["ExitCode"] for id, state in states.items()}

    def told(self) -> dict[str, int]:
        """Return the exit codes that the events of the ends tell."""
        now = int(time.time()) + 1
        _, text = self.engine.api("GET", f'/events?since=0&until={now}&filters={{"event":["die"]}}')
        return dict(_died(text))

    def untouched(self) -> bool:
        """Whether the bystanders are the processes that they were."""
        return all(self._identity(id) == before for id, before in self._bystanders.items())

    def clear(self) -> None:
        """Remove everything."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            ids = [*self._codes, *self._bystanders]
            answers = list(clients.map(self._remove, ids))
        assert Counter(answers) == {204: len(ids)}

    def _start_one(self, number: int) -> tuple[str, int]:
        code = number % 120 + 1  # never 0 nor that of a signal
        return self._run(f"storm{number}", ["sh", "-c", f"read line < /gate/pipe; exit {code}"]), code

    def _run(self, name: str, command: list[str]) -> str:
        host = {"NetworkMode": "none", "Binds": [f"{self._gate}:/gate"]}
        status, answer = self.engine.api(
            "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": command, "HostConfig": host}
        )
        assert status == 201, answer
        id: str = answer["Id"]
        status, answer = self.engine.api("POST", f"/containers/{id}/start")
        assert status == 204, answer
        return id

    def _wait_one(self, id: str) -> tuple[str, int]:
        return id, self.engine.api("POST", f"/containers/{id}/wait")[1]["StatusCode"]

    def _remove(self, id: str) -> int:
        return self.engine.api("DELETE", f"/containers/{id}?force=1")[0]

    def _kill_each_tenth(self) -> Iterator[tuple[str, bool]]:
        for id in list(self._codes)[::10]:
            yield id, self.engine.api("POST", f"/containers/{id}/kill")[0] == 204

    def _identity(self, id: str) -> tuple[int, str]:
        state = self.engine.api("GET", f"/containers/{id}/json")[1]["State"]
        assert state["Status"] == "running"
        return state["Pid"], Path(f"/proc/{state['Pid']}/stat").read_text().rpartition(")")[2].split()[19]


def _died(text: object) -> Iterator[tuple[str, int]]:
    lines = [text] if isinstance(text, dict) else [json.loads(line) for line in str(text).splitlines() if line]
    for event in lines:
        yield event["Actor"]["ID"], int(event["Actor"]["Attributes"]["exitCode"])
