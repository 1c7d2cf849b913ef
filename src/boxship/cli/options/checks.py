"""Checks of single flag values, made while the command line is read; ValueError refuses a value in Docker's words."""

from __future__ import annotations

import os

from boxship.cli.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STREAMS = ("stdin", "stdout", "stderr")
GLOBAL_SYSCTLS = frozenset(
    (
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    )
)
SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
ULIMITS = frozenset(
    (
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)


def check_stream(text: str) -> str:
    """Return the name of a standard stream in lower case."""
    name = text.lower()
    if name not in STREAMS:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def check_env(text: str) -> str | None:
    """Return ``NAME=value``; a bare name takes the caller's value, and None stands for one that is not set."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError("invalid environment variable: " + text)
    if equals:
        return text
    value = os.environ.get(name)
    return name if value is None else f"{name}={value}"


def check_label(text: str) -> str:
    """Return ``name=value`` or ``name``."""
    name = text.partition("=")[0].strip()
    if not name:
        raise ValueError(f"invalid label '{text}': empty name")
    if " " in name or "\t" in name:
        raise ValueError(f"label '{text}' contains whitespaces")
    return text


def check_sysctl(text: str) -> str:
    """Return ``name=value`` of a kernel parameter that namespaces isolate."""
    name, equals, _ = text.partition("=")
    if equals and (name in GLOBAL_SYSCTLS or name.startswith(SYSCTL_PREFIXES)):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed")


def check_link(text: str) -> str:
    """Return ``container`` or ``container:alias``."""
    parts = text.split(":")
    if not text:
        raise ValueError("empty string specified for links")
    if len(parts) > 2:
        raise ValueError(f"bad format for links: {text}")
    return text


def check_host(text: str) -> str:
    """Return ``name:address``; ``name=address`` is taken too, and an IPv6 address may stand in brackets."""
    separator = min((found for found in (text.find("="), text.find(":")) if found >= 0), default=-1)
    name, address = (text[:separator], text[separator + 1 :]) if separator >= 0 else (text, "")
    if not name or not address:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not is_ip(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def check_ip(text: str) -> str:
    """Return an IP address."""
    text = text.strip()
    if not is_ip(text):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text


def check_domain(text: str) -> str:
    """Return a search domain; ``.`` stands for none."""
    domain = text.strip()
    if domain == ".":
        return domain
    labels = domain.split(".")
    if len(domain) > 255 or not all(_is_label(label) for label in (labels[:-1] if domain.endswith(".") else labels)):
        raise ValueError(f"{text} is not a valid domain")
    return domain


def _is_label(label: str) -> bool:
    return bool(label) and len(label) < 64 and label.replace("-", "a").replace("_", "a").isalnum() and label[0] != "-"


def is_ip(text: str) -> bool:
    """Whether ``text`` is an IPv4 or IPv6 address."""
    from _socket import AF_INET, AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def check_ulimit(text: str) -> dict[str, Any]:
    """Return one element of ``Ulimits`` from ``name=soft[:hard]``."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    if hard_text.count(":"):
        raise ValueError("too many limit value arguments - " + limits + ", can only have up to two, `soft[:hard]`")
    soft = _limit(soft_text)
    hard = _limit(hard_text) if colon else soft
    if hard != -1 and (soft > hard or soft == -1):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def _limit(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def check_weight_device(text: str) -> dict[str, Any]:
    """Return one element of ``BlkioWeightDevice`` from ``/dev/sda:300``."""
    path, value = _device_value(text)
    try:
        weight = int(value)
    except ValueError:
        raise ValueError(f"invalid weight for device: {text}") from None
    if weight and not 10 <= weight <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": weight}


def check_bps_device(text: str) -> dict[str, Any]:
    """Return one throttled device from ``/dev/sda:1mb``."""
    path, value = _device_value(text)
    problem = (
        f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
        "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
    )
    try:
        rate = parse_size(value)
    except ValueError:
        raise ValueError(problem) from None
    return {"Path": path, "Rate": rate}


def check_iops_device(text: str) -> dict[str, Any]:
    """Return one throttled device from ``/dev/sda:1000``."""
    path, value = _device_value(text)
    if not value.isdecimal():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive "
            "integer"
        )
    return {"Path": path, "Rate": int(value)}


def _device_value(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def check_cgroup_rule(text: str) -> str:
    """Return a rule ``type major:minor access``."""
    fields = text.split(" ")
    if len(fields) == 3 and fields[0] in ("a", "b", "c") and set(fields[2]) <= set("rwm") and 0 < len(fields[2]) < 4:
        numbers = fields[1].split(":")
        if len(numbers) == 2 and all(number == "*" or number.isdecimal() for number in numbers):
            return text
    raise ValueError(f"invalid device cgroup format '{text}'")


def check_gpus(text: str) -> dict[str, Any]:
    """Return one device request from ``all``, a count, or ``count=1,capabilities=utility,driver=...``."""
    from boxship.cli.options.devices import parse_gpus

    return parse_gpus(text)


def check_mount(text: str) -> dict[str, Any]:
    """Return one element of ``Mounts``."""
    from boxship.cli.options.mounts import parse_mount

    return parse_mount(text)


def check_network(text: str) -> dict[str, Any]:
    """Return one network attachment."""
    from boxship.cli.options.networks import parse_network

    return parse_network(text)
