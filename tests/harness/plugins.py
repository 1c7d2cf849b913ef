"""Sample plugins: programs that speak Docker's plugin protocol on a socket, record what they are asked, and can misbehave."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
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
            request_queue_size = 2  # a small one, so that many calls at once meet a full one

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


class NetworkPlugin(Plugin):
    """Makes a bridge for each network and a veth pair for each endpoint, in the engine's network namespace."""

    interface = "NetworkDriver"

    def __init__(self, directory: Path, name: str, run: Callable[..., object]) -> None:
        """``run`` carries out a command in the namespace."""
        super().__init__(directory, name)
        self._run = run
        self.networks: dict[str, Body] = {}
        self.endpoints: dict[str, Body] = {}
        self.joined: dict[str, str] = {}  # endpoint: the host's end of its pair
        self.open: dict[str, Body] = {}  # endpoints with external connectivity: its options
        self.decision: Body = {}  # added to what CreateEndpoint answers of the interface
        self.join_answer: Body = {}  # added to what Join answers

    def on_get_capabilities(self, body: Body) -> Body:
        return {"Scope": "local", "ConnectivityScope": "local"}

    def on_create_network(self, body: Body) -> Body:
        id = body["NetworkID"]
        # What stays on one bridge is no matter of the host's firewall, where the kernel would make it one (br_netfilter).
        self._run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-ip*; do [ ! -e $f ] || echo 0 >$f; done")
        self._run("ip", "link", "add", _bridge(id), "type", "bridge")
        self._run("ip", "link", "set", _bridge(id), "up")
        for pool in [*(body["IPv4Data"] or []), *(body["IPv6Data"] or [])]:
            if pool.get("Gateway"):
                self._run("ip", "address", "add", pool["Gateway"], "dev", _bridge(id), *_nodad(pool["Gateway"]))
        self.networks[id] = body
        return {}

    def on_delete_network(self, body: Body) -> Body:
        if self.networks.pop(body["NetworkID"], None) is None:
            raise Refusal("no such network")
        self._run("ip", "link", "delete", _bridge(body["NetworkID"]))
        return {}

    def on_create_endpoint(self, body: Body) -> Body:
        self.endpoints[body["EndpointID"]] = body
        mac = "02:77:" + bytes.fromhex(body["EndpointID"][:8]).hex(":")
        return {} if body["Interface"]["MacAddress"] else {"Interface": {"MacAddress": mac, **self.decision}}

    def on_endpoint_oper_info(self, body: Body) -> Body:
        return {"Value": {"sample": body["EndpointID"] in self.joined}}

    def on_delete_endpoint(self, body: Body) -> Body:
        if self.endpoints.pop(body["EndpointID"], None) is None:
            raise Refusal("no such endpoint")
        return {}

    def on_join(self, body: Body) -> Body:
        id = body["EndpointID"]
        host, inside = f"ph{id[:10]}", f"pc{id[:10]}"
        self._run("ip", "link", "add", host, "type", "veth", "peer", "name", inside)
        self._run("ip", "link", "set", host, "master", _bridge(body["NetworkID"]), "up")
        self.joined[id] = host
        network = self.networks[body["NetworkID"]]
        gateway = [pool.get("Gateway", "").partition("/")[0] for pool in network["IPv4Data"] or []]
        gateway_v6 = [pool.get("Gateway", "").partition("/")[0] for pool in network["IPv6Data"] or []]
        return {
            "InterfaceName": {"SrcName": inside, "DstPrefix": "eth"},
            "Gateway": gateway[0] if gateway else "",
            "GatewayIPv6": gateway_v6[0] if gateway_v6 else "",
            **self.join_answer,
        }

    def on_leave(self, body: Body) -> Body:
        host = self.joined.pop(body["EndpointID"], None)
        if host is None:
            raise Refusal("the endpoint has not joined")
        with contextlib.suppress(subprocess.CalledProcessError):  # it went with the container's namespace
            self._run("ip", "link", "delete", host)
        return {}

    def on_program_external_connectivity(self, body: Body) -> Body:
        self.open[body["EndpointID"]] = body["Options"]
        return {}

    def on_revoke_external_connectivity(self, body: Body) -> Body:
        self.open.pop(body["EndpointID"], None)
        return {}

    def empty(self) -> bool:
        """Whether nothing is held for anybody."""
        return not (self.networks or self.endpoints or self.joined or self.open)


class IpamPlugin(Plugin):
    """Gives out pools of 10.99.N.0/24 (fd99:N::/64), or what is asked for, and the lowest addresses."""

    interface = "IpamDriver"
    error = "Error"

    def __init__(self, directory: Path, name: str, **capabilities: bool) -> None:
        super().__init__(directory, name)
        self._capabilities = capabilities
        self.pools: dict[str, Body] = {}
        self.addresses: dict[str, set[str]] = {}

    def on_get_capabilities(self, body: Body) -> Body:
        return dict(self._capabilities)

    def on_get_default_address_spaces(self, body: Body) -> Body:
        return {"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "everywhere"}

    def on_request_pool(self, body: Body) -> Body:
        if self._capabilities.get("RequiresRequestReplay"):
            for id, pool in self.pools.items():
                if pool["Pool"] == body["Pool"]:
                    return {"PoolID": id, "Pool": pool["Pool"]}
        number = next(number for number in range(1, 250) if f"pool-{number}" not in self.pools)
        default = f"fd99:{number}::/64" if body["V6"] else f"10.99.{number}.0/24"
        self.pools[f"pool-{number}"] = {**body, "Pool": body["Pool"] or default}
        self.addresses[f"pool-{number}"] = set()
        return {"PoolID": f"pool-{number}", "Pool": body["Pool"] or default, "Data": {}}

    def on_release_pool(self, body: Body) -> Body:
        if self.pools.pop(body["PoolID"], None) is None:
            raise Refusal("no such pool")
        return {}

    def on_request_address(self, body: Body) -> Body:
        pool = ip_network(self.pools[body["PoolID"]]["Pool"])
        taken = self.addresses[body["PoolID"]]
        address = body["Address"] or next(str(one) for one in pool.hosts() if str(one) not in taken)
        if address in taken:
            raise Refusal(f"{address} is taken")
        taken.add(address)
        return {"Address": f"{address}/{pool.prefixlen}"}

    def on_release_address(self, body: Body) -> Body:
        if body["Address"] not in self.addresses.get(body["PoolID"], ()):
            raise Refusal("the address is not taken")
        self.addresses[body["PoolID"]].discard(body["Address"])
        return {}

    def empty(self) -> bool:
        """Whether nothing is held for anybody."""
        return not self.pools and not any(self.addresses.values())


def _bridge(network_id: str) -> str:
    return f"pb{network_id[:10]}"


def _nodad(address: str) -> list[str]:
    return ["nodad"] if ":" in address else []
