"""Sample plugins: programs that speak Docker's plugin protocol on a socket, record what they are asked, and can misbehave."""

from __future__ import annotations

import json
import re
import shutil
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Body = dict[str, Any]


class Refusal(Exception):
    """What a plugin does not do, and why."""


class Plugin:
    """A plugin NAME, listening on ``directory/NAME.sock`` until :meth:`close`, or the end of a ``with`` block.

    ``calls`` has everything that it was asked, without the activation. A method in ``refused`` is answered with an error,
    one in ``raw`` with these bytes; one in ``held`` waits for its event first.
    """

    interface = ""
    error = "Err"

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.path = directory / f"{name}.sock"
        self.calls: list[tuple[str, Body]] = []
        self.activations = 0
        self.refused: dict[str, str] = {}
        self.raw: dict[str, bytes] = {}
        self.held: dict[str, threading.Event] = {}
        self.arrived = threading.Condition()
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Plugin:
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def listen(self) -> None:
        """Begin to answer."""
        plugin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                plugin.answer(self)

            def address_string(self) -> str:
                return plugin.name

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that gave up

        self.path.unlink(missing_ok=True)
        self._server = Server(str(self.path), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self, *, leave_socket: bool = False) -> None:
        """Stop answering; with ``leave_socket`` as a plugin that was killed does."""
        for event in self.held.values():
            event.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if not leave_socket:
            self.path.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The methods that were called."""
        return [method for method, _ in self.calls]

    def wait_for(self, method: str, seconds: float = 30) -> None:
        """Return when a call of this method has come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: method in self.names(), seconds), f"no {method} in {self.names()}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = json.loads(request.rfile.read(int(request.headers.get("Content-Length", 0))) or b"{}")
        method = request.path.removeprefix("/")
        if method == "Plugin.Activate":
            self.activations += 1
        else:
            with self.arrived:
                self.calls.append((method, body))
                self.arrived.notify_all()
        if method in self.held:
            self.held[method].wait(60)
        status, answer = 200, self.raw.get(method)
        if answer is None:
            status, document = self._document(method, body)
            answer = json.dumps(document).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _document(self, method: str, body: Body) -> tuple[int, Body]:
        if method == "Plugin.Activate":
            return 200, {"Implements": self.interface.split()}
        if method in self.refused:
            return 200, {self.error: self.refused[method]}
        act: Callable[[Body], Body] | None = getattr(self, _handler(method), None)
        if act is None:
            return 404, {}
        try:
            return 200, act(body)
        except Refusal as exc:
            return 200, {self.error: str(exc)}


def _handler(method: str) -> str:
    words = re.sub("(?<!^)(?=[A-Z])", "_", method.partition(".")[2])
    return f"on_{words.lower()}"


class VolumePlugin(Plugin):
    """Keeps volumes as directories below ``home`` and counts their mounts."""

    interface = "VolumeDriver"

    def __init__(self, directory: Path, name: str, home: Path) -> None:
        super().__init__(directory, name)
        self.home = home
        self.volumes: dict[str, Body] = {}
        self.mounts: dict[str, set[str]] = {}

    def on_create(self, body: Body) -> Body:
        name = body["Name"]
        (self.home / name).mkdir(parents=True, exist_ok=True)
        self.volumes[name] = body.get("Opts") or {}
        return {"Err": None}

    def on_remove(self, body: Body) -> Body:
        if self.mounts.get(body["Name"]):
            raise Refusal("volume is mounted")
        self._known(body)
        del self.volumes[body["Name"]]
        shutil.rmtree(self.home / body["Name"])
        return {"Err": ""}

    def on_mount(self, body: Body) -> Body:
        self._known(body)
        self.mounts.setdefault(body["Name"], set()).add(body["ID"])
        return {"Mountpoint": str(self.home / body["Name"])}

    def on_unmount(self, body: Body) -> Body:
        self.mounts.setdefault(body["Name"], set()).discard(body["ID"])
        return {}

    def on_path(self, body: Body) -> Body:
        return {"Mountpoint": self._shown(body["Name"])["Mountpoint"]}

    def on_get(self, body: Body) -> Body:
        self._known(body)
        return {
            "Volume": {**self._shown(body["Name"]), "Status": {"Tier": "sample", "Opts": self.volumes[body["Name"]]}}
        }

    def on_list(self, body: Body) -> Body:
        return {"Volumes": [self._shown(name) for name in self.volumes] or None}

    def on_capabilities(self, body: Body) -> Body:
        return {"Capabilities": {"Scope": "global"}}

    def _known(self, body: Body) -> None:
        if body["Name"] not in self.volumes:
            raise Refusal("no such volume")

    def _shown(self, name: str) -> Body:
        mounted = bool(self.mounts.get(name))
        return {"Name": name, "Mountpoint": str(self.home / name) if mounted else ""}
