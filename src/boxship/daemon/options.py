"""All options of the daemon as data: the flag, the key in daemon.json, the kind of value, the attribute of the configuration.

The names are dockerd's. A value arrives as text from a flag or as JSON from the file; ``Kind`` knows both ways in and the
form in which conflicts are shown (Go's ``%v``).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

JSON = Any  # a value of daemon.json


class BadValue(ValueError):
    """A value is not of its option's kind; the text is Go's."""


class Kind:
    """How a value is read. ``many``: the flag may be repeated and its values are collected."""

    metavar = "string"
    many = False
    word = "string"  # Go's name of the type in JSON errors

    def from_text(self, text: str) -> Any:
        """Return the value of one occurrence of the flag. Raises BadValue."""
        return text

    def from_json(self, value: JSON) -> Any:
        """Return the value of the key in daemon.json. Raises BadValue."""
        if not isinstance(value, str):
            raise BadValue(_mismatch(value, self.word))
        return value

    def merge(self, values: list[Any]) -> Any:
        """Return the option's value from all occurrences of the flag, of which there is at least one."""
        return values[-1]


class Bool(Kind):
    metavar = ""
    word = "bool"

    def from_text(self, text: str) -> bool:
        if text in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if text in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        raise BadValue(f'strconv.ParseBool: parsing "{text}": invalid syntax')

    def from_json(self, value: JSON) -> bool:
        if not isinstance(value, bool):
            raise BadValue(_mismatch(value, self.word))
        return value


class Int(Kind):
    metavar = "int"
    word = "int"

    def from_text(self, text: str) -> int:
        if not re.fullmatch("[+-]?[0-9]{1,18}", text):
            raise BadValue(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        return int(text)

    def from_json(self, value: JSON) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue(_mismatch(value, self.word))
        return value


class Bytes(Kind):
    """A size in bytes, as a number or with one of the suffixes b, k, m, g, t (powers of 1024)."""

    metavar = "bytes"
    word = "opts.MemBytes"

    def from_text(self, text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)\s?([kmgtp]?)i?b?", text.lower())
        if match is None:
            raise BadValue(f"invalid size: '{text}'")
        return int(float(match[1]) * 1024 ** " kmgtp".index(match[2] or " "))

    def from_json(self, value: JSON) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise BadValue(_mismatch(value, self.word))
        return value if isinstance(value, int) else self.from_text(value)


class List(Kind):
    metavar = "list"
    many = True
    word = "[]string"

    def from_json(self, value: JSON) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadValue(_mismatch(value, self.word))
        return tuple(value)

    def merge(self, values: list[Any]) -> Any:
        return tuple(values)


class Map(Kind):
    """``key=value``, repeated."""

    metavar = "map"
    many = True
    word = "map[string]string"

    def from_text(self, text: str) -> tuple[str, str]:
        key, _, value = text.partition("=")
        return key, value

    def from_json(self, value: JSON) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise BadValue(_mismatch(value, self.word))
        return dict(value)

    def merge(self, values: list[Any]) -> Any:
        return dict(values)


class Runtimes(Kind):
    """``name=path``; in the file ``{"name": {"path": ..., "runtimeArgs": [...]}}``."""

    metavar = "runtime"
    many = True
    word = "types.Runtime"

    def from_text(self, text: str) -> tuple[str, dict[str, Any]]:
        name, _, path = text.partition("=")
        if not name.strip() or not path.strip():
            raise BadValue(f"invalid runtime format: {text}")
        return name.strip().lower(), {"path": path.strip(), "runtimeArgs": []}

    def from_json(self, value: JSON) -> dict[str, dict[str, Any]]:
        if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
            raise BadValue(_mismatch(value, self.word))
        return {
            name: {"path": item.get("path", item.get("runtimeType", "")), "runtimeArgs": item.get("runtimeArgs") or []}
            for name, item in value.items()
        }

    def merge(self, values: list[Any]) -> Any:
        return dict(values)


class Ulimits(Kind):
    """``name=soft[:hard]``; in the file ``{"name": {"Name": ..., "Soft": ..., "Hard": ...}}``."""

    metavar = "ulimit"
    many = True
    word = "units.Ulimit"

    def from_text(self, text: str) -> tuple[str, tuple[int, int]]:
        match = re.fullmatch(r"([a-z]+)=(-1|[0-9]+)(?::(-1|[0-9]+))?", text)
        if match is None:
            raise BadValue(f"invalid ulimit argument: {text}")
        soft = int(match[2])
        hard = soft if match[3] is None else int(match[3])
        if hard != -1 and (soft == -1 or soft > hard):
            raise BadValue(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        return match[1], (soft, hard)

    def from_json(self, value: JSON) -> dict[str, tuple[int, int]]:
        try:
            return {name: (int(item["Soft"]), int(item["Hard"])) for name, item in value.items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise BadValue(_mismatch(value, self.word)) from None

    def merge(self, values: list[Any]) -> Any:
        return dict(values)


class Pools(Kind):
    """``base=CIDR,size=BITS``; in the file ``[{"base": CIDR, "size": BITS}]``."""

    metavar = "pool-options"
    many = True
    word = "[]*ipamutils.NetworkToSplit"

    def from_text(self, text: str) -> tuple[str, int]:
        fields = dict(part.partition("=")[::2] for part in text.split(","))
        if set(fields) != {"base", "size"} or not fields["size"].isdecimal():
            raise BadValue(f"invalid default address pool: {text} (expected base=CIDR,size=BITS)")
        return fields["base"], int(fields["size"])

    def from_json(self, value: JSON) -> tuple[tuple[str, int], ...]:
        try:
            return tuple((str(item["base"]), int(item["size"])) for item in value)
        except (KeyError, TypeError, ValueError):
            raise BadValue(_mismatch(value, self.word)) from None

    def merge(self, values: list[Any]) -> Any:
        return tuple(values)


class Document(Kind):
    """A JSON object that another part of the daemon reads."""

    metavar = "json"
    word = "map[string]interface {}"

    def from_json(self, value: JSON) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise BadValue(_mismatch(value, self.word))
        return value


class Documents(Kind):
    """A list of JSON objects that another part of the daemon reads."""

    metavar = "json"
    word = "[]map[string]interface {}"

    def from_json(self, value: JSON) -> tuple[dict[str, Any], ...]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise BadValue(_mismatch(value, self.word))
        return tuple(value)


class Option(NamedTuple):
    """One option; ``flag`` None: only in the file; ``key`` None: only as a flag; ``field`` None: accepted and ignored."""

    flag: str | None
    key: str | None
    field: str | None
    kind: Kind
    help: str
    short: str | None = None
    reload: bool = False  # SIGHUP takes a new value from the file


def _same(name: str, kind: Kind, help: str, short: str | None = None, *, reload: bool = False) -> Option:
    return Option(name, name, name.replace("-", "_"), kind, help, short, reload)


STRING, BOOL, INT, BYTES, LIST, MAP = Kind(), Bool(), Int(), Bytes(), List(), Map()

OPTIONS: tuple[Option, ...] = (
    Option("add-runtime", "runtimes", "runtimes", Runtimes(), "Register an additional OCI compatible runtime", reload=True),
    Option("allow-nondistributable-artifacts", "allow-nondistributable-artifacts", None, LIST, "Ignored"),
    Option("api-cors-header", "api-cors-header", None, STRING, "Ignored"),
    Option("authorization-plugin", "authorization-plugins", "authorization_plugins", LIST, "Authorization plugins to load"),
    _same("bip", STRING, "Specify default-bridge IPv4 network"),
    _same("bip6", STRING, "Specify default-bridge IPv6 network"),
    _same("bridge", STRING, "Attach containers to a network bridge", "b"),
    Option("cdi-spec-dir", "cdi-spec-dirs", "cdi_spec_dirs", LIST, "CDI specification directories to use"),
    _same("cgroup-parent", STRING, "Set parent cgroup for all containers"),
    Option("config-file", None, "config_file", STRING, "Daemon configuration file"),
    Option("containerd", "containerd", None, STRING, "Ignored"),
    Option("containerd-namespace", "containerd-namespace", None, STRING, "Ignored"),
    Option("containerd-plugins-namespace", "containerd-plugins-namespace", None, STRING, "Ignored"),
    Option("cri-containerd", "cri-containerd", None, BOOL, "Ignored"),
    _same("data-root", STRING, "Root directory of persistent state"),
    _same("debug", BOOL, "Enable debug mode", "D", reload=True),
    Option("default-address-pool", "default-address-pools", "default_address_pools", Pools(), "Default address pools for node specific local networks"),
    _same("default-cgroupns-mode", STRING, 'Default mode for containers cgroup namespace ("host" | "private")'),
    _same("default-gateway", STRING, "Default gateway IPv4 address for the default bridge network"),
    _same("default-gateway-v6", STRING, "Default gateway IPv6 address for the default bridge network"),
    _same("default-ipc-mode", STRING, 'Default mode for containers ipc ("shareable" | "private")'),
    _same("default-runtime", STRING, "Default OCI runtime for containers", reload=True),
    _same("default-shm-size", BYTES, "Default shm size for containers"),
    Option("default-ulimit", "default-ulimits", "default_ulimits", Ulimits(), "Default ulimits for containers"),
    _same("dns", LIST, "DNS server to use"),
    Option("dns-opt", "dns-opts", "dns_opts", LIST, "DNS options to use"),
    _same("dns-search", LIST, "DNS search domains to use"),
    Option("exec-opt", "exec-opts", "exec_opts", LIST, "Runtime execution options"),
    _same("exec-root", STRING, "Root directory for execution state files"),
    _same("experimental", BOOL, "Enable experimental features"),
    Option(None, "features", "features", Document(), "", reload=True),
    _same("firewall-backend", STRING, "Firewall backend to use, iptables or nftables"),
    _same("firewall-policy", STRING, 'Who opens published ports to the outside ("publish"|"respect-host")'),
    _same("fixed-cidr", STRING, "IPv4 subnet for the default bridge network"),
    _same("fixed-cidr-v6", STRING, "IPv6 subnet for the default bridge network"),
    _same("group", STRING, "Group for the unix socket", "G"),
    Option("host", "hosts", "hosts", LIST, "Daemon socket(s) to connect to", "H"),
    _same("host-gateway-ip", STRING, "IP address that the special 'host-gateway' string in --add-host resolves to"),
    _same("http-proxy", STRING, "HTTP proxy URL to use for outgoing traffic"),
    _same("https-proxy", STRING, "HTTPS proxy URL to use for outgoing traffic"),
    _same("icc", BOOL, "Enable inter-container communication for the default bridge network"),
    _same("init", BOOL, "Run an init in the container to forward signals and reap processes"),
    _same("init-path", STRING, "Path to the docker-init binary"),
    Option("insecure-registry", "insecure-registries", "insecure_registries", LIST, "Enable insecure registry communication", reload=True),
    _same("ip", STRING, "Host IP for port publishing from the default bridge network"),
    _same("ip-forward", BOOL, "Enable IP forwarding in system configuration"),
    _same("ip-masq", BOOL, "Enable IP masquerading for the default bridge network"),
    _same("ip6tables", BOOL, "Enable addition of ip6tables rules"),
    _same("iptables", BOOL, "Enable addition of iptables rules"),
    _same("ipv6", BOOL, "Enable IPv6 networking for the default bridge network"),
    Option("label", "labels", "labels", LIST, "Set key=value labels to the daemon", reload=True),
    _same("live-restore", BOOL, "Enable live restore of containers when the daemon is down", reload=True),
    _same("log-driver", STRING, "Default driver for container logs"),
    _same("log-format", STRING, 'Set the logging format ("text"|"json")'),
    _same("log-level", STRING, 'Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")', "l"),
    Option(None, "builder", "builder", Document(), "", reload=True),
    Option(None, "image-gc", "image_gc", Document(), "", reload=True),
    Option("log-opt", "log-opts", "log_opts", MAP, "Default log driver options for containers"),
    _same("max-concurrent-downloads", INT, "Set the max concurrent downloads", reload=True),
    _same("max-concurrent-uploads", INT, "Set the max concurrent uploads", reload=True),
    _same("max-download-attempts", INT, "Set the max download attempts for each pull", reload=True),
    _same("metrics-addr", STRING, "Set default address and port to serve the metrics api on"),
    _same("mtu", INT, "Set the MTU for the default bridge network"),
    _same("network-control-plane-mtu", INT, "Network Control plane MTU"),
    _same("no-new-privileges", BOOL, "Set no-new-privileges by default for new containers"),
    _same("no-proxy", STRING, "Comma-separated list of hosts or IP addresses for which the proxy is skipped"),
    Option("node-generic-resource", "node-generic-resources", "node_generic_resources", LIST, "Advertise user-defined resource"),
    _same("oom-score-adjust", INT, "Set the oom_score_adj for the daemon"),
    _same("pidfile", STRING, "Path to use for daemon PID file", "p"),
    Option("plugin-dir", "plugin-dirs", "plugin_dirs", LIST, "Directories with sockets and specifications of plugins"),
    _same("plugin-wait", INT, "Seconds to wait for a plugin that does not listen yet"),
    Option(None, "proxies", None, Document(), ""),
    _same("publish-on-loopback", BOOL, "Publish ports that name no host address on 127.0.0.1 only"),
    _same("raw-logs", BOOL, "Full timestamps without ANSI coloring"),
    Option("registry-mirror", "registry-mirrors", "registry_mirrors", LIST, "Preferred registry mirror", reload=True),
    Option(None, "registry-mirror-rules", "registry_mirror_rules", Documents(), "", reload=True),
    _same("seccomp-profile", STRING, 'Path to seccomp profile. Set to "unconfined" to disable the default seccomp profile'),
    _same("selinux-enabled", BOOL, "Enable selinux support"),
    _same("shutdown-timeout", INT, "Set the default shutdown timeout", reload=True),
    _same("storage-driver", STRING, "Storage driver to use", "s"),
    Option("storage-opt", "storage-opts", "storage_opts", LIST, "Storage driver options"),
    _same("swarm-default-advertise-addr", STRING, "Set default address or interface for swarm advertised address"),
    _same("tls", BOOL, "Use TLS; implied by --tlsverify"),
    _same("tlscacert", STRING, "Trust certs signed only by this CA"),
    _same("tlscert", STRING, "Path to TLS certificate file"),
    _same("tlskey", STRING, "Path to TLS key file"),
    _same("tlsverify", BOOL, "Use TLS and verify the remote"),
    _same("userland-proxy", BOOL, "Use userland proxy for loopback traffic"),
    _same("userland-proxy-path", STRING, "Path to the userland proxy binary"),
    _same("userns-remap", STRING, "User/Group setting for user namespaces"),
)  # fmt: skip

BY_FLAG = {option.flag: option for option in OPTIONS if option.flag}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_KEY = {option.key: option for option in OPTIONS if option.key}


def shown(value: Any) -> str:
    """Return a value as Go's ``%v`` prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(shown, value)) + "]"
    return "<nil>" if value is None else str(value)


def _mismatch(value: JSON, word: str) -> str:
    names = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return f"json: cannot unmarshal {names.get(type(value), 'null')} into Go value of type {word}"
