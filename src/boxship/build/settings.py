"""What a build's options mean for its containers, its times and its registries (pure)."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from boxship.base.errors import InvalidInput
from boxship.build.graph import AnyOperation, Run
from boxship.images.reference import Reference
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.container import HostConfig, LogConfig

EPOCH = "SOURCE_DATE_EPOCH"

_HUB = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
_LATEST = 1 << 33  # seconds


def host_config(options: BuildOptions) -> HostConfig:
    """Return the limits and the network of a build's containers."""
    return HostConfig(
        log_config=LogConfig(type="none"),
        memory=options.memory,
        memory_swap=options.memory_swap,
        cpu_shares=options.cpu_shares,
        cpuset_cpus=options.cpuset_cpus,
        cpuset_mems=options.cpuset_mems,
        cpu_period=options.cpu_period,
        cpu_quota=options.cpu_quota,
        shm_size=options.shm_size,
        ulimits=list(options.ulimits) or None,
        cgroup_parent=options.cgroup_parent,
        extra_hosts=list(options.extra_hosts) or None,
        network_mode=options.network_mode,
    )


def epoch_ns(options: BuildOptions) -> int | None:
    """Return the time that SOURCE_DATE_EPOCH names, None without it. Raises InvalidInput."""
    text = options.build_args.get(EPOCH)
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or int(text) > _LATEST:
        raise InvalidInput(f"invalid {EPOCH}: {text}")
    return int(text) * 1_000_000_000


def surroundings(options: BuildOptions, operation: AnyOperation) -> dict[str, str]:
    """Return what of the build itself can change the result of an operation, by name, as far as it was asked for."""
    found = {EPOCH: str(epoch)} if (epoch := epoch_ns(options)) is not None else {}
    if isinstance(operation, Run):
        if options.network_mode not in ("", "default") and operation.network == "default":
            found["network of the build"] = options.network_mode
        if options.extra_hosts:
            found["hosts"] = msgspec.json.encode(options.extra_hosts).decode()
        if options.ulimits:
            found["ulimits"] = msgspec.json.encode(options.ulimits).decode()
    return found


def split_tag(name: str) -> tuple[str, str]:
    """Return repository and tag of ``-t``."""
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "latest")


def registry_auth(header: str | None, image: Reference) -> str | None:
    """Return the X-Registry-Auth header for an image's registry out of an X-Registry-Config header."""
    try:
        plain = (header or "").strip().replace("+", "-").replace("/", "_").rstrip("=")
        held = msgspec.json.decode(
            urlsafe_b64decode(plain + "=" * (-len(plain) % 4)), type=dict[str, dict[str, str | None]]
        )
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None
    domain = image.name.partition("/")[0]
    for key in _HUB if domain == "docker.io" else (domain, f"https://{domain}", f"http://{domain}"):
        if key in held:
            return urlsafe_b64encode(msgspec.json.encode(held[key])).decode()
    return None
