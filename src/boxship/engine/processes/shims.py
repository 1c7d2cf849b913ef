"""The daemon's end of a shim: requests with answers, and the events of one container."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from boxship.base.errors import DeadlineExceeded, SystemFailure
from boxship.engine.processes.channel import Channel, ChannelClosed
from boxship.wire.messages import NOT_RUNNING, close_all

ANSWER_TIMEOUT = 30.0  # seconds; a shim answers in under a millisecond unless the host is in trouble


class ShimGone(SystemFailure):
    """The shim, or the process that was asked for, ended before the answer."""


class Client(NamedTuple):
    """A client's connection on its way to a shim; the receiver owns ``fd``."""

    fd: int
    stdin: bool
    stdout: bool
    stderr: bool
    detach_keys: list[int]
    leftover: bytes

    def request(self) -> dict[str, Any]:
        """Return the fields of an attach request."""
        return {
            "stdin": self.stdin,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "detach_keys": self.detach_keys,
            "leftover": base64.b64encode(self.leftover).decode(),
        }


class Shim:
    """One control connection to a shim.

    ``on_event`` gets every event of the shim on the loop, in order; ``on_gone`` is called once when the connection ended.
    """

    def __init__(
        self, sock: socket.socket, on_event: Callable[[dict[str, Any]], None], on_gone: Callable[[], None]
    ) -> None:
        self._on_event = on_event
        self._on_gone = on_gone
        self._seq = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._channel = Channel(sock, self._message, self._closed)

    @property
    def connected(self) -> bool:
        """Whether requests can still be sent."""
        return not self._channel.closed

    async def ask(
        self, op: str, fields: dict[str, Any] | None = None, fds: Sequence[int] = (), *, timeout: float = ANSWER_TIMEOUT
    ) -> dict[str, Any]:
        """Send a request and return its answer, whatever it says. Raises ShimGone, DeadlineExceeded after ``timeout``."""
        self._seq += 1
        seq = self._seq
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[seq] = answered
        try:
            async with asyncio.timeout(timeout):
                await self._channel.send({"seq": seq, "op": op, **(fields or {})}, fds)
                return await answered
        except TimeoutError:
            raise DeadlineExceeded(f"the shim did not answer {op} in {timeout:.0f} seconds") from None
        except ChannelClosed as exc:
            raise ShimGone(f"the shim is gone: {exc}") from exc
        finally:
            self._answers.pop(seq, None)

    async def attach(self, client: Client) -> None:
        """Hand a client's connection over; this process keeps no copy of the descriptor, also on failure."""
        try:
            answer = await self.ask("attach", client.request(), [client.fd])
        finally:
            os.close(client.fd)
        if not answer.get("ok"):
            raise SystemFailure(str(answer.get("error", "attach failed")))

    async def kill(self, signal: int, *, all: bool = False) -> None:
        """Send a signal to the container's first process, or to all of them."""
        answer = await self.ask("kill", {"signal": signal, "all": all})
        if not answer.get("ok"):
            error = str(answer.get("error", "kill failed"))
            # A process may end between two signals; its end is told as an event of its own.
            raise ShimGone(error) if error == NOT_RUNNING else SystemFailure(error)

    def close(self) -> None:
        """Close this connection; the shim lives on."""
        self._channel.close()

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        close_all(fds)  # no message of a shim carries any
        if "event" in message:
            self._on_event(message)
            return
        waiting = self._answers.pop(int(message.get("seq", 0)), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _closed(self) -> None:
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ShimGone("the shim ended"))
        self._answers.clear()
        self._on_gone()


def connect(state_dir: str) -> socket.socket:
    """Connect to the shim whose state is in ``state_dir``; raises FileNotFoundError or ConnectionRefusedError.

    The path goes through a directory descriptor because a socket address holds only 107 bytes.
    """
    dir_fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(f"/proc/self/fd/{dir_fd}/shim.sock")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(dir_fd)
    return sock
