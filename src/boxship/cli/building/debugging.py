"""``build --debug``: shells in steps that failed, and the question how to go on.

A shell shows what the step left, with its variables, user, directory, mounts, secrets and agents. What is changed there is not kept,
since the cache knows steps by their instructions; a remedy belongs into the Dockerfile or the context. So "again" comes in two
kinds: the step alone as it was, or the build with the Dockerfile and context as they are now, which finds the earlier steps cached.
"""

from __future__ import annotations

import os

from boxship.cli.attached import Attachment, ContainerSignals
from boxship.cli.command import STDERR, STDIN, STDOUT, ExitError, Session, write
from boxship.cli.stdio import window_size
from boxship.client.engine import quote
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REBUILD = "build again with the Dockerfile and context as they are now [b]"


class Debugger:
    """Asks the user of one attempt to build. ``rebuild`` is true when they chose to build again as everything is now.

    ``can_rebuild``: the context can be read a second time. Calls go over a connection of their own, since the events take the build's.
    """

    def __init__(self, session: Session, *, can_rebuild: bool) -> None:
        if not os.isatty(STDIN) or not os.isatty(STDOUT):
            raise ExitError("--debug needs a terminal: its shells are for a person")
        self._session = Session(session.program, session.path, session.options, session.config, session.endpoint)
        self._can_rebuild = can_rebuild
        self.rebuild = False
        self._over = False  # it was decided to let the build fail: other steps that stopped go with it

    def stopped(self, event: dict[str, Any]) -> None:
        """Open a shell for a step that stopped, then do what its user wants. Raises ClientError."""
        if self._over:
            return
        step = f"/boxship/build/stopped/{quote(event['container'])}"
        _say("A shell in what the step left. What you change here is not kept; leave it with exit.\n")
        answer = "s"
        while answer == "s":
            self._shell(step)
            answer = self._ask()
        if answer == "r":
            self._session.engine.json("POST", f"{step}/retry")
            return
        self.rebuild = answer == "b"
        self._over = True
        self._session.engine.json("POST", f"{step}/abandon", {"rm": "1"} if self.rebuild else None)

    def asks_again(self, error: ClientError) -> bool:
        """Show why the build could not begin once more; return whether its user has changed something meanwhile."""
        _say(f"{error}\n")
        return _answer(f"{_REBUILD[0].upper()}{_REBUILD[1:]}, or give up [g]? ", "bg") == "b"

    def _shell(self, step: str) -> None:
        engine = self._session.engine
        height, width = window_size()
        try:
            container = engine.json("POST", f"{step}/shell", {"h": height, "w": width})["Id"]
            signals = ContainerSignals(self._session, container, proxy=False, tty=True)
            try:
                query = {"stream": True, "stdin": True, "stdout": True, "stderr": True}
                connection = engine.hijack(f"/containers/{container}/attach", query)
                attachment = Attachment(connection, tty=True, stdin=True, keys=b"")
                engine.json("POST", f"/containers/{container}/start")
                signals.resize_now()
                attachment.run(signals.events, signals.handle)
            finally:
                signals.close()
        except ClientError as exc:
            _say(f"There is no shell: {exc}\n")

    def _ask(self) -> str:
        rebuild = f"{_REBUILD}, " if self._can_rebuild else ""
        question = f"Run the step again [r], {rebuild}another shell [s], or give up [g]? "
        return _answer(question, "rbsg" if self._can_rebuild else "rsg")


def _answer(question: str, known: str) -> str:
    """Return the letter of an answer; the end of input gives up."""
    while True:
        _say(question)
        line = b""
        while not line.endswith(b"\n") and (piece := os.read(STDIN, 1)):
            line += piece
        answer = line.decode("utf-8", "replace").strip().lower()[:1]
        if answer and answer in known:
            return answer
        if not line.endswith(b"\n"):
            return "g"


def _say(text: str) -> None:
    write(STDERR, text.encode())
