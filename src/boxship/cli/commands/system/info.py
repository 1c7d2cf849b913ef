"""``system info`` (``info``): the engine at a glance."""

from __future__ import annotations

from boxship import __version__
from boxship.cli.command import Command
from boxship.cli.flags import JSON_FORMAT
from boxship.cli.units import binary_size
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Info = dict[str, Any]


def run(session: Session, values: Values) -> int:
    """Show client and server; without an engine the client only, and status 1."""
    info: Info | None = None
    problem = ""
    try:
        info = session.engine.json("GET", "/info")
    except ClientError as exc:
        problem = str(exc)
    format = values.text("format")
    if format:
        return _formatted(session, info, format, problem)
    lines = [
        "Client:",
        f" Version:    {__version__}",
        f" Context:    {session.endpoint.context}",
        f" Debug Mode: {_truth(session.options.debug)}",
        "",
        "Server:",
    ]
    if info is None:
        session.line("\n".join(lines))
        session.error(problem)
        return 1
    lines.extend(server_lines(info))
    session.line("\n".join(lines) + "\n")
    for warning in info.get("Warnings") or []:
        session.error(warning)
    return 0


def _formatted(session: Session, info: Info | None, format: str, problem: str) -> int:
    from boxship.cli.commands.system.version import client_document
    from boxship.cli.template.objects import render_objects

    client = {"Debug": session.options.debug, **client_document(session, ""), "Plugins": [], "Warnings": None}
    client.pop("ApiVersion")
    document = {**(info or {}), "ClientInfo": client}
    if problem:
        document["ServerErrors"] = [problem]
    session.out(render_objects("{{json .}}" if format == "json" else format, [document]))
    return 0


def server_lines(info: Info) -> Iterator[str]:
    """Yield the server's lines in Docker's order; what the engine does not say is left out."""
    yield f" Containers: {info.get('Containers', 0)}"
    yield f"  Running: {info.get('ContainersRunning', 0)}"
    yield f"  Paused: {info.get('ContainersPaused', 0)}"
    yield f"  Stopped: {info.get('ContainersStopped', 0)}"
    yield f" Images: {info.get('Images', 0)}"
    yield from _given(info, " Server Version", "ServerVersion")
    yield from _given(info, " Storage Driver", "Driver")
    yield from (f"  {name}: {value}" for name, value in info.get("DriverStatus") or [])
    yield from (f"  {name}: {value}" for name, value in info.get("SystemStatus") or [])
    yield from _given(info, " Logging Driver", "LoggingDriver")
    yield from _given(info, " Cgroup Driver", "CgroupDriver")
    yield from _given(info, " Cgroup Version", "CgroupVersion")
    yield " Plugins:"
    plugins = info.get("Plugins") or {}
    for kind in ("Volume", "Network", "Authorization", "Log"):
        if plugins.get(kind) or kind in ("Volume", "Network", "Log"):
            yield f"  {kind}: {' '.join(plugins.get(kind) or [])}"
    if info.get("CDISpecDirs"):
        yield " CDI spec directories:"
        yield from (f"  {directory}" for directory in info["CDISpecDirs"])
    yield from _swarm_lines(info.get("Swarm") or {})
    if info.get("Runtimes"):
        yield f" Runtimes: {' '.join(sorted(info['Runtimes']))}"
        yield f" Default Runtime: {info.get('DefaultRuntime', '')}"
    yield from _version_lines(info)
    yield from _security_lines(info.get("SecurityOptions") or [])
    yield from _host_lines(info)


def _swarm_lines(swarm: Info) -> Iterator[str]:
    yield f" Swarm: {swarm.get('LocalNodeState') or 'inactive'}"
    if swarm.get("LocalNodeState") in (None, "", "inactive", "locked"):
        return
    yield f"  NodeID: {swarm.get('NodeID', '')}"
    if swarm.get("Error"):
        yield f"  Error: {swarm['Error']}"
    yield f"  Is Manager: {_truth(swarm.get('ControlAvailable'))}"
    if swarm.get("ControlAvailable"):
        yield f"  ClusterID: {(swarm.get('Cluster') or {}).get('ID', '')}"
        yield f"  Managers: {swarm.get('Managers', 0)}"
        yield f"  Nodes: {swarm.get('Nodes', 0)}"
    yield f"  Node Address: {swarm.get('NodeAddr', '')}"


def _version_lines(info: Info) -> Iterator[str]:
    if info.get("OSType") != "linux":
        return
    yield f" Init Binary: {info.get('InitBinary', '')}"
    for label, field in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        yield f" {label} version: {(info.get(field) or {}).get('ID', '')}"


def _security_lines(options: list[str]) -> Iterator[str]:
    if not options:
        return
    yield " Security Options:"
    for option in options:
        pairs = [part.partition("=") for part in option.split(",")]
        name = next((value for key, _, value in pairs if key == "name"), option)
        yield f"  {name}"
        yield from (f"   {key.capitalize()}: {value}" for key, _, value in pairs if key != "name" and value)


def _host_lines(info: Info) -> Iterator[str]:
    yield from _given(info, " Kernel Version", "KernelVersion")
    yield from _given(info, " Operating System", "OperatingSystem")
    yield from _given(info, " OSType", "OSType")
    yield from _given(info, " Architecture", "Architecture")
    yield f" CPUs: {info.get('NCPU', 0)}"
    yield f" Total Memory: {binary_size(info.get('MemTotal', 0))}"
    yield from _given(info, " Name", "Name")
    yield from _given(info, " ID", "ID")
    yield f" Docker Root Dir: {info.get('DockerRootDir', '')}"
    yield f" Debug Mode: {_truth(info.get('Debug'))}"
    if info.get("Debug"):
        yield f"  File Descriptors: {info.get('NFd', 0)}"
        yield f"  Goroutines: {info.get('NGoroutines', 0)}"
        yield f"  System Time: {info.get('SystemTime', '')}"
        yield f"  EventsListeners: {info.get('NEventsListener', 0)}"
    yield from _given(info, " HTTP Proxy", "HttpProxy")
    yield from _given(info, " HTTPS Proxy", "HttpsProxy")
    yield from _given(info, " No Proxy", "NoProxy")
    if info.get("Labels"):
        yield " Labels:"
        yield from (f"  {label}" for label in info["Labels"])
    yield f" Experimental: {_truth(info.get('ExperimentalBuild'))}"
    yield from _registry_lines(info.get("RegistryConfig") or {})
    yield f" Live Restore Enabled: {_truth(info.get('LiveRestoreEnabled'))}"
    yield from _given(info, " Product License", "ProductLicense")
    if info.get("DefaultAddressPools"):
        yield " Default Address Pools:"
        yield from (f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in info["DefaultAddressPools"])
    if info.get("FirewallBackend"):
        yield f" Firewall Backend: {info['FirewallBackend'].get('Driver', '')}"


def _registry_lines(registry: Info) -> Iterator[str]:
    insecure = [name for name, config in (registry.get("IndexConfigs") or {}).items() if not config.get("Secure", True)]
    insecure += registry.get("InsecureRegistryCIDRs") or []
    if insecure:
        yield " Insecure Registries:"
        yield from (f"  {name}" for name in insecure)
    if registry.get("Mirrors"):
        yield " Registry Mirrors:"
        yield from (f"  {mirror}" for mirror in registry["Mirrors"])


def _given(info: Info, label: str, field: str) -> Iterator[str]:
    if info.get(field):
        yield f"{label}: {info[field]}"


def _truth(value: object) -> str:
    return "true" if value else "false"


COMMANDS = {"system info": Command("[OPTIONS]", run, (JSON_FORMAT,))}
