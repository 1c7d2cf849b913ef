"""The control socket: what boxshipd says to the nameserver.

Messages are those of :mod:`boxship.wire.messages`. Each request has ``op`` and ``seq`` and gets one answer with that ``seq``:
``ok``, and ``error`` when that is false. Changes take effect in the order of the requests; answers may overtake one another.

================ ==================================== =====================================================================
op               fields                               answer
================ ==================================== =====================================================================
``hello``                                             ``version`` of the program
``sync``         ``resolvers``, ``endpoints``: lists  when all sandboxes are served; ``failed``: {sandbox id: reason}
``attach``       ``resolver``                         when the sandbox is served
``detach``       ``sandbox_id``                       at once
``publish``      ``endpoint``                         at once
``withdraw``     ``endpoint_id``                      at once
``status``                                            counts
``retire``                                            the socket's path is free for another nameserver; this one ends with
                                                      this connection
``stop``                                              and it ends
================ ==================================== =====================================================================

Fields of a resolver and of an endpoint are those of ``boxship.networks.names``.
"""

from __future__ import annotations

import os
import socket

from boxship import __version__
from boxship.shim.loop import READ
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.nameserver.service import Service
    from boxship.shim.loop import Loop

SOCKET = "control.sock"
_ANSWER_TIMEOUT = 5.0  # seconds for a boxshipd that does not read


class Control:
    """Owns the listening socket in ``directory``, and the connections."""

    def __init__(self, directory: str, listener: socket.socket, lock: int, service: Service, loop: Loop) -> None:
        self._directory = directory
        self._listener = listener
        self._lock = lock
        self._service = service
        self._loop = loop
        self._connections: set[_Connection] = set()
        self._retired = False
        loop.watch(listener.fileno(), READ, lambda _: self._accept())

    def ended(self, connection: _Connection) -> None:
        """Note that boxshipd is gone; without one and without sandboxes nobody needs us."""
        self._connections.discard(connection)
        if not self._connections and (self._retired or self._service.empty):
            self._stop()

    def carry_out(self, message: dict[str, Any], connection: _Connection) -> None:
        """Do what a request says and answer it; raises KeyError, TypeError or ValueError for a bad one."""
        seq = message["seq"]
        service = self._service
        answer: dict[str, Any] = {"seq": seq, "ok": True}
        match message["op"]:
            case "hello":
                answer["version"] = __version__
            case "sync":
                service.replace(
                    message["resolvers"],
                    message["endpoints"],
                    lambda failed: connection.send({"seq": seq, "ok": True, "failed": failed}),
                )
                return
            case "attach":
                service.attach(
                    message["resolver"], lambda error: connection.send({"seq": seq, "ok": not error, "error": error})
                )
                return
            case "detach":
                service.detach(message["sandbox_id"])
            case "publish":
                service.publish(message["endpoint"])
            case "withdraw":
                service.withdraw(message["endpoint_id"])
            case "status":
                answer |= service.status()
            case "retire":
                self._retire()
            case "stop":
                connection.send(answer)
                self._stop()
                return
            case unknown:
                raise ValueError(f"unknown request {unknown!r}")
        connection.send(answer)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._connections.add(_Connection(sock, self, self._loop))

    def _retire(self) -> None:
        if self._retired:
            return
        self._retired = True
        self._loop.forget(self._listener.fileno())
        os.unlink(f"{self._directory}/{SOCKET}")
        self._listener.close()
        os.close(self._lock)

    def _stop(self) -> None:
        self._retire()
        self._service.close()
        self._loop.stop()


class _Connection:
    """One boxshipd."""

    def __init__(self, sock: socket.socket, control: Control, loop: Loop) -> None:
        self._sock = sock
        self._control = control
        self._loop = loop
        self._decoder = messages.Decoder()
        self._open = True
        sock.settimeout(_ANSWER_TIMEOUT)
        loop.watch(sock.fileno(), READ, lambda _: self._readable())

    def send(self, answer: dict[str, Any]) -> None:
        """Send an answer; a boxshipd that is gone needs none."""
        if not self._open:
            return
        try:
            messages.send(self._sock, answer)
        except OSError:
            self._close()

    def _readable(self) -> None:
        try:
            data, fds = messages.receive_some(self._sock)
            messages.close_all(fds)
            arrived = self._decoder.feed(data) if data else None
        except (OSError, messages.MessageError):
            arrived = None
        if arrived is None:
            self._close()
            return
        for message in arrived:
            try:
                self._control.carry_out(message, self)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                self.send({"seq": message.get("seq", 0), "ok": False, "error": f"bad request: {exc!r}"})

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.forget(self._sock.fileno())
        self._decoder.close()
        self._sock.close()
        self._control.ended(self)
