"""``network ls``, ``create``, ``rm``, ``connect``, ``disconnect``, and our own ``explain``."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError
from boxship.cli.flags import TABLE_FORMAT, Flag, check_filter
from boxship.cli.options.checks import check_label, check_link
from boxship.cli.options.document import pairs
from boxship.cli.options.networks import endpoint
from boxship.cli.table import Listing, short_id
from boxship.client import jsontext
from boxship.client.engine import filters_text, quote
from boxship.client.errors import ApiError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

LS_FLAGS = (
    Flag("filter", "filter", 'Provide filter values (e.g. "driver=bridge")', short="f", check=check_filter),
    TABLE_FORMAT,
    Flag("no-trunc", "bool", "Do not truncate the output"),
    Flag("quiet", "bool", "Only display network IDs", short="q"),
)
CREATE_FLAGS = (
    Flag("attachable", "bool", "Enable manual container attachment"),
    Flag("aux-address", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver", shown="(default map[])"),
    Flag("config-from", "string", "The network from which to copy the configuration"),
    Flag("config-only", "bool", "Create a configuration only network"),
    Flag(
        "driver",
        "string",
        "Driver to manage the Network",
        short="d",
        default="bridge",
        shown='(default "bridge")',
    ),
    Flag("gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
    Flag("ingress", "bool", "Create swarm routing-mesh network"),
    Flag("internal", "bool", "Restrict external access to the network"),
    Flag("ip-range", "strings", "Allocate container ip from a sub-range"),
    Flag("ipam-driver", "string", "IP Address Management Driver", default="default", shown='(default "default")'),
    Flag("ipam-opt", "map", "Set IPAM driver specific options", shown="(default map[])"),
    Flag("ipv4", "bool", "Enable or disable IPv4 address assignment", default=True, shown="(default true)"),
    Flag("ipv6", "bool", "Enable or disable IPv6 address assignment"),
    Flag("label", "list", "Set metadata on a network", check=check_label),
    Flag("opt", "map", "Set driver specific options", short="o", shown="(default map[])"),
    Flag("scope", "string", "Control the network's scope"),
    Flag("subnet", "strings", "Subnet in CIDR format that represents a network segment"),
)
CONNECT_FLAGS = (
    Flag("alias", "strings", "Add network-scoped alias for the container"),
    Flag("driver-opt", "strings", "driver options for the network"),
    Flag(
        "gw-priority",
        "int",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    Flag("ip", "string", 'IPv4 address (e.g., "172.30.100.104")'),
    Flag("ip6", "string", 'IPv6 address (e.g., "2001:db8::33")'),
    Flag("link", "list", "Add link to another container", check=check_link),
    Flag("link-local-ip", "strings", "Add a link-local address for the container"),
)
DISCONNECT_FLAGS = (Flag("force", "bool", "Force the container to disconnect from a network", short="f"),)
EXPLAIN_FLAGS = (Flag("json", "bool", "Print the answer of the engine as JSON"),)
RM_FLAGS = (Flag("force", "bool", "Do not error if the network does not exist", short="f"),)


def listing(*, truncate: bool) -> Listing:
    """Return how networks are listed."""
    fields = {
        "ID": ("NETWORK ID", lambda n: short_id(n["Id"]) if truncate else n["Id"]),
        "Name": ("NAME", lambda n: n["Name"]),
        "Driver": ("DRIVER", lambda n: n["Driver"]),
        "Scope": ("SCOPE", lambda n: n["Scope"]),
        "IPv4": ("IPV4", lambda n: str(bool(n.get("EnableIPv4"))).lower()),
        "IPv6": ("IPV6", lambda n: str(bool(n.get("EnableIPv6"))).lower()),
        "Internal": ("INTERNAL", lambda n: str(bool(n.get("Internal"))).lower()),
        "Labels": ("LABELS", lambda n: ",".join(f"{k}={v}" for k, v in sorted((n.get("Labels") or {}).items()))),
        "CreatedAt": ("CREATED AT", lambda n: _created(n.get("Created") or "")),
    }
    return Listing("*formatter.networkContext", fields, ("ID", "Name", "Driver", "Scope"))


def _created(moment: str) -> str:
    date, _, clock = moment.partition("T")
    zone = "+0000 UTC" if clock.endswith("Z") else clock[-6:].replace(":", "")
    return f"{date} {clock.removesuffix('Z')} {zone}"


def ls(session: Session, values: Values) -> int:
    """List networks."""
    filters = values.filters()
    query = {"filters": filters_text(filters)} if filters else {}
    networks = session.engine.json("GET", "/networks", query) or []
    networks.sort(key=lambda network: network["Name"])
    format, quiet = values.text("format"), values.is_set("quiet")
    if not format and not quiet:
        format = session.config.text("networksFormat")
    raw = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
    listing(truncate=not values.is_set("no-trunc")).show(session, networks, format, quiet=quiet, raw=raw)
    return 0


def create(session: Session, values: Values) -> int:
    """Create a network and print its ID."""
    try:
        document = create_document(values)
    except ValueError as exc:
        raise ExitError(str(exc)) from exc
    answer = session.engine.json("POST", "/networks/create", None, document)
    if answer.get("Warning"):
        session.error(f"WARNING: {answer['Warning']}")
    session.line(answer["Id"])
    return 0


def create_document(values: Values) -> dict[str, Any]:
    """Return the document of ``POST /networks/create``. Raises ValueError."""
    document: dict[str, Any] = {
        "Driver": values.text("driver"),
        "Scope": values.text("scope"),
    }
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if flag in values.changed:
            document[field] = values.is_set(flag)
    source = values.text("config-from")
    document.update(
        {
            "IPAM": {
                "Driver": values.text("ipam-driver"),
                "Options": pairs(values.many("ipam-opt")),
                "Config": _ipam_config(values),
            },
            "Internal": values.is_set("internal"),
            "Attachable": values.is_set("attachable"),
            "Ingress": values.is_set("ingress"),
            "ConfigOnly": values.is_set("config-only"),
            "ConfigFrom": {"Network": source} if source else None,
            "Options": pairs(values.many("opt")),
            "Labels": pairs(values.many("label")),
            "Name": values.arguments[0],
        }
    )
    return document


def _ipam_config(values: Values) -> list[dict[str, Any]]:
    """Return one pool for each subnet, with the range, gateway and auxiliary addresses that lie in it."""
    from ipaddress import ip_address, ip_network

    ranges, gateways, auxiliary = values.many("ip-range"), values.many("gateway"), pairs(values.many("aux-address"))
    subnets = values.many("subnet")
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise ValueError("every ip-range or gateway must have a corresponding subnet")
    pools: dict[str, dict[str, Any]] = {}
    parsed = {}
    for subnet in subnets:
        try:
            parsed[subnet] = ip_network(subnet, strict=False)
        except ValueError as exc:
            raise ValueError(f"invalid CIDR address: {subnet}") from exc
        if any(other != subnet and parsed[other].overlaps(parsed[subnet]) for other in pools):
            raise ValueError("multiple overlapping subnet configuration is not supported")
        pools[subnet] = {"Subnet": subnet, "AuxiliaryAddresses": {}}

    def home(text: str, kind: str) -> dict[str, Any]:
        address = ip_address(text.partition("/")[0])
        for subnet, network in parsed.items():
            if address in network:
                return pools[subnet]
        raise ValueError(f"no matching subnet for {kind} {text}")

    for text in ranges:
        pool = home(text, "range")
        if "IPRange" in pool:
            raise ValueError(
                f"cannot configure multiple ranges ({text}, {pool['IPRange']}) on the same subnet ({pool['Subnet']})"
            )
        pool["IPRange"] = text
    for text in gateways:
        pool = home(text, "gateway")
        if "Gateway" in pool:
            raise ValueError(
                f"cannot configure multiple gateways ({text}, {pool['Gateway']}) for the same subnet ({pool['Subnet']})"
            )
        pool["Gateway"] = text
    for name, text in auxiliary.items():
        home(text, "aux-address")["AuxiliaryAddresses"][name] = text
    return [
        {key: pool[key] for key in ("Subnet", "IPRange", "Gateway", "AuxiliaryAddresses") if pool.get(key)}
        for pool in pools.values()
    ]


def remove(session: Session, values: Values) -> int:
    """Remove networks."""
    status = 0
    for name in values.arguments:
        try:
            session.engine.json("DELETE", f"/networks/{quote(name)}")
        except NotFoundError as exc:
            if values.is_set("force"):
                continue
            session.error(str(exc))
            status = 1
        except ApiError as exc:
            session.error(str(exc))
            status = 1
        else:
            session.line(name)
    if status:
        session.error(f"exit status {status}")
    return status


def connect(session: Session, values: Values) -> int:
    """Connect a container to a network."""
    network, container = values.arguments
    item = {
        "ip": values.text("ip"),
        "ip6": values.text("ip6"),
        "link_local_ips": values.many("link-local-ip"),
        "links": values.many("link"),
        "aliases": values.many("alias"),
        "driver_opts": pairs(values.many("driver-opt")),
        "gw_priority": values.number("gw-priority"),
    }
    document = {"Container": container, "EndpointConfig": endpoint(item)}
    session.engine.json("POST", f"/networks/{quote(network)}/connect", None, document)
    return 0


def disconnect(session: Session, values: Values) -> int:
    """Disconnect a container from a network."""
    network, container = values.arguments
    document = {"Container": container, "Force": values.is_set("force")}
    session.engine.json("POST", f"/networks/{quote(network)}/disconnect", None, document)
    return 0


def explain(session: Session, values: Values) -> int:
    """Tell who reaches a port of the host or a container."""
    found = session.engine.json("GET", f"/boxship/networks/explain/{quote(values.arguments[0], safe='/')}")
    session.line(jsontext.dumps(found) if values.is_set("json") else found["Text"])
    return 0


COMMANDS = {
    "network ls": Command("[OPTIONS]", ls, LS_FLAGS),
    "network create": Command("[OPTIONS] NETWORK", create, CREATE_FLAGS, least=1, most=1),
    "network rm": Command("NETWORK [NETWORK...]", remove, RM_FLAGS, least=1, most=None),
    "network explain": Command("[OPTIONS] PORT[/PROTOCOL]|CONTAINER", explain, EXPLAIN_FLAGS, least=1, most=1),
    "network connect": Command("[OPTIONS] NETWORK CONTAINER", connect, CONNECT_FLAGS, least=2, most=2),
    "network disconnect": Command("[OPTIONS] NETWORK CONTAINER", disconnect, DISCONNECT_FLAGS, least=2, most=2),
}
