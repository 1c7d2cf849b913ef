"""One session with a network plugin and an IPAM plugin, and what an engine asks of them in it, without what is random."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.plugins import IpamPlugin, NetworkPlugin, Plugin
from harness.waiting import until

RECORDED = Path(__file__).parents[1] / "system/plugins/dockerd_calls.json"
_CAPABILITIES = (
    "GetCapabilities",
    "GetDefaultAddressSpaces",
    "EndpointOperInfo",
)  # how often is an engine's own matter
_STEPS: tuple[tuple[str, str], ...] = (
    ("network create -d net --ipam-driver ipam -o color=red --ipam-opt a=b mine", ""),
    ("network create -d net --internal --subnet 10.55.0.0/24 --aux-address x=10.55.0.9 two", ""),
    ("run -d --name one --network mine -p 8080:80 busybox sleep 999", ""),
    ("network connect --ip 10.55.0.44 two one", ""),
    ("network disconnect mine one", ""),
    ("rm -f one", ""),
    ("run --rm --network mine busybox true", "Join"),
    ("run --rm --network mine busybox true", "CreateEndpoint"),
    ("run --rm --network mine busybox true", "ProgramExternalConnectivity"),
    ("network create -d net --subnet 10.56.0.0/24 bad", "CreateNetwork"),
    ("network rm mine", ""),
    ("network rm two", ""),
)


class Client(Protocol):
    """An engine that the docker CLI can be run against."""

    def docker(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]: ...


def play(engine: Client, net: NetworkPlugin, ipam: IpamPlugin) -> list[dict[str, Any]]:
    """Run the session; return for each command what failed of it and what each plugin was asked.

    Engines give back in the background what a container had: a step is over when the plugins hold what it leaves.
    """
    found: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for line, refused in _STEPS:
        net.refused = {f"NetworkDriver.{refused}": "not now"} if refused else {}
        done = engine.docker(*line.split(), check=False)
        assert (done.returncode != 0) == bool(refused), done.stderr
        if not engine.docker("ps", "-q").stdout:
            until(lambda: not (net.endpoints or net.joined), 30)
            until(lambda: all(len(taken) <= 1 for taken in ipam.addresses.values()), 30)
        found.append({"command": line, "refused": refused, "net": _asked(net, names), "ipam": _asked(ipam, names)})
    return found


def _asked(plugin: Plugin, names: dict[str, str]) -> list[Sequence[Any]]:
    calls = [call for call in plugin.calls if call[0].partition(".")[2] not in _CAPABILITIES]
    plugin.calls.clear()
    return [[method, json.loads(_plain(json.dumps(body, sort_keys=True), names))] for method, body in calls]


def _plain(text: str, names: dict[str, str]) -> str:
    """Return a document with ids named by the order in which they come, without MAC addresses and paths."""
    text = re.sub(r"[0-9a-f]{64}", lambda match: names.setdefault(match[0], f"id {len(names)}"), text)
    text = re.sub(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "mac", text)
    return re.sub(r'"SandboxKey": "/[^"]*"', '"SandboxKey": "path"', text)
