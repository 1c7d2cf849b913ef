"""What differs between versions of the Engine API; everything else speaks the newest one.

Two tables: ``ANSWERS`` reshapes documents on their way out, ``CREATE`` withdraws from a create request what its version did
not know. A row applies to the versions in ``[since, before)``. Source: Docker's API version history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import CreateRequest, HostConfig


class ApiVersion(tuple[int, ...]):
    """``1.41`` as numbers, so that 1.9 < 1.10."""

    @classmethod
    def parse(cls, text: str) -> ApiVersion:
        """Return the version that ``text`` (digits and dots) names; an empty part counts as 0."""
        return cls(int(part[:9] or 0) for part in text.split("."))

    def __str__(self) -> str:
        return ".".join(map(str, self))


NEWEST = ApiVersion((1, 56))
OLDEST = ApiVersion((1, 24))


def check(version: ApiVersion) -> ApiVersion:
    """Return ``version`` if it is served here. Raises InvalidInput in Docker's words."""
    if version > NEWEST:
        raise InvalidInput(f"client version {version} is too new. Maximum supported API version is {NEWEST}")
    if version < OLDEST:
        raise InvalidInput(
            f"client version {version} is too old. Minimum supported API version is {OLDEST}, "
            "please upgrade your client to a newer version"
        )
    return version


Document = dict[str, Any]


class Rule(NamedTuple):
    """One difference: for versions in [since, before), call ``apply`` on what stands at ``path`` of the document.

    ``path`` is a list of keys from the document's top; ``*`` is every item of a list or map. A missing key ends the walk.
    """

    since: int
    before: int
    path: str
    apply: Callable[[Document], None]


FIRST, LAST = OLDEST[1], NEWEST[1] + 1


def drop(*names: str) -> Callable[[Document], None]:
    """Return a change that removes fields."""

    def apply(document: Document) -> None:
        for name in names:
            document.pop(name, None)

    return apply


def drop_null(*names: str) -> Callable[[Document], None]:
    """Return a change that removes fields that are null (Docker leaves these out when they are not set)."""

    def apply(document: Document) -> None:
        for name in names:
            if document.get(name, 0) is None:
                del document[name]

    return apply


def add(**fields: Any) -> Callable[[Document], None]:
    """Return a change that adds fields that are not there."""

    def apply(document: Document) -> None:
        for name, value in fields.items():
            document.setdefault(name, value)

    return apply


def _short_id_alias(container: Document) -> None:
    for endpoint in container.get("NetworkSettings", {}).get("Networks", {}).values():
        aliases = endpoint.get("Aliases") or []
        short = container["Id"][:12]
        endpoint["Aliases"] = aliases if short in aliases else [*aliases, short]


def _virtual_size(image: Document) -> None:
    image["VirtualSize"] = image.get("Size", 0)


def _dangling_names(image: Document) -> None:
    image["RepoTags"] = image.get("RepoTags") or ["<none>:<none>"]
    image["RepoDigests"] = image.get("RepoDigests") or ["<none>@<none>"]


def _usage_totals(usage: Document) -> None:
    """Bring disk usage into the form of 1.52: one summary for each kind of object."""
    images, containers = usage.pop("Images", None) or [], usage.pop("Containers", None) or []
    volumes, caches = usage.pop("Volumes", None) or [], usage.pop("BuildCache", None) or []
    layers = usage.pop("LayersSize", 0)
    usage.pop("BuilderSize", None)
    idle = [image for image in images if not image.get("Containers")]
    running = [c for c in containers if c.get("State") in ("running", "paused", "restarting")]
    used = [v for v in volumes if (v.get("UsageData") or {}).get("RefCount", 0) > 0]
    reclaim = sum(max(i.get("Size", 0) - max(i.get("SharedSize", 0), 0), 0) for i in idle)
    usage["ImageUsage"] = _summary(images, len(images) - len(idle), layers, reclaim)
    usage["ContainerUsage"] = _summary(
        containers,
        len(running),
        sum(c.get("SizeRw", 0) for c in containers),
        sum(c.get("SizeRw", 0) for c in containers if c not in running),
    )
    usage["VolumeUsage"] = _summary(
        volumes,
        len(used),
        sum(_volume_size(v) for v in volumes),
        sum(_volume_size(v) for v in volumes if v not in used),
    )
    usage["BuildCacheUsage"] = _summary(
        caches,
        sum(1 for c in caches if c.get("InUse")),
        sum(c.get("Size", 0) for c in caches),
        sum(c.get("Size", 0) for c in caches if not c.get("InUse")),
    )


def _summary(items: list[Document], active: int, size: int, reclaimable: int) -> Document:
    return {
        "ActiveCount": active,
        "TotalCount": len(items),
        "TotalSize": size,
        "Reclaimable": reclaimable,
        "Items": items,
    }


def _volume_size(volume: Document) -> int:
    size: int = (volume.get("UsageData") or {}).get("Size", 0)
    return max(size, 0)  # -1 is "not known"


_FLAT_ADDRESSES = (
    "Bridge", "HairpinMode", "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen", "SecondaryIPAddresses",
    "SecondaryIPv6Addresses", "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress",
    "IPPrefixLen", "IPv6Gateway", "MacAddress",
)  # fmt: skip
_CONFIG_OPTIONAL = (
    "ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip
_NO_IMAGE_CONFIG = (
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
    "NetworkDisabled", "MacAddress", "StopTimeout",
)  # fmt: skip
_EMPTY_IMAGE_CONFIG = msgspec.to_builtins(CreateRequest())
for _name in ("HostConfig", "NetworkingConfig", *_CONFIG_OPTIONAL):
    del _EMPTY_IMAGE_CONFIG[_name]

ANSWERS: dict[str, tuple[Rule, ...]] = {
    "container": (
        Rule(FIRST, LAST, "Config", drop_null(*_CONFIG_OPTIONAL)),
        Rule(FIRST, LAST, "HostConfig", drop_null("Mounts", "StorageOpt", "Tmpfs", "Sysctls", "Init", "Annotations")),
        Rule(52, LAST, "NetworkSettings", drop(*_FLAT_ADDRESSES)),
        Rule(FIRST, 48, "", drop("ImageManifestDescriptor")),
        Rule(FIRST, 48, "NetworkSettings.Networks.*", drop("GwPriority")),
        Rule(FIRST, 45, "", _short_id_alias),
        Rule(FIRST, 44, "NetworkSettings.Networks.*", drop("DNSNames")),
        Rule(FIRST, 43, "HostConfig", drop("Annotations")),
        Rule(FIRST, 42, "HostConfig", add(KernelMemory=0, KernelMemoryTCP=0)),
        Rule(FIRST, 40, "HostConfig", add(DiskQuota=0)),
    ),
    "container-summary": (
        Rule(FIRST, 52, "", drop("Health")),
        Rule(FIRST, 48, "", drop("ImageManifestDescriptor")),
        Rule(FIRST, 48, "NetworkSettings.Networks.*", drop("GwPriority")),
        Rule(FIRST, 46, "HostConfig", drop("Annotations")),
        Rule(FIRST, 44, "NetworkSettings.Networks.*", drop("DNSNames")),
    ),
    "image": (
        Rule(FIRST, LAST, "Config", drop_null(*_CONFIG_OPTIONAL)),
        Rule(52, LAST, "", drop("Parent", "DockerVersion")),
        Rule(50, LAST, "Config", drop(*_NO_IMAGE_CONFIG)),
        Rule(FIRST, 45, "", add(Container="", ContainerConfig=_EMPTY_IMAGE_CONFIG)),
        Rule(FIRST, 44, "", _virtual_size),
        Rule(44, LAST, "", drop("VirtualSize")),
    ),
    "image-summary": (
        Rule(FIRST, 43, "", _dangling_names),
        Rule(FIRST, 44, "", _virtual_size),
        Rule(44, LAST, "", drop("VirtualSize")),
    ),
    "network": (Rule(FIRST, 47, "", drop("EnableIPv4")),),
    "info": (Rule(FIRST, 43, "", drop("CDISpecDirs")), Rule(FIRST, 50, "", drop("DiscoveredDevices"))),
    "event": (Rule(52, LAST, "", drop("status", "id", "from")),),
    "disk-usage": (
        Rule(FIRST, 42, "", add(BuilderSize=0)),
        Rule(FIRST, 44, "Images.*", _virtual_size),
        Rule(52, LAST, "", _usage_totals),
    ),
}


def reshape(document: str, version: ApiVersion, value: Any) -> Any:
    """Return ``value`` (a model, a document, or a list of one of them) as clients of ``version`` know it.

    A value that no rule touches is returned as it is.
    """
    minor = version[1]
    rules = [rule for rule in ANSWERS[document] if rule.since <= minor < rule.before]
    if not rules:
        return value
    plain = msgspec.to_builtins(value)
    for item in plain if isinstance(plain, list) else [plain]:
        for rule in rules:
            for part in _walk(item, rule.path.split(".") if rule.path else []):
                rule.apply(part)
    return plain


def _walk(value: Any, keys: list[str]) -> list[Document]:
    if not keys:
        return [value] if isinstance(value, dict) else []
    if keys[0] == "*":
        items = list(value.values()) if isinstance(value, dict) else value or []
    else:
        items = [value[keys[0]]] if isinstance(value, dict) and keys[0] in value else []
    return [found for item in items for found in _walk(item, keys[1:])]


class CreateRule(NamedTuple):
    """What a create request of a version before ``before`` can't mean."""

    before: int
    apply: Callable[[CreateRequest, HostConfig], tuple[CreateRequest, HostConfig]]


def _set_host(**fields: Any) -> Callable[[CreateRequest, HostConfig], tuple[CreateRequest, HostConfig]]:
    return lambda request, host: (request, msgspec.structs.replace(host, **fields))


def _default_host(name: str, value: str) -> Callable[[CreateRequest, HostConfig], tuple[CreateRequest, HostConfig]]:
    def apply(request: CreateRequest, host: HostConfig) -> tuple[CreateRequest, HostConfig]:
        return request, host if getattr(host, name) else msgspec.structs.replace(host, **{name: value})

    return apply


def _no_start_interval(request: CreateRequest, host: HostConfig) -> tuple[CreateRequest, HostConfig]:
    if request.healthcheck is None:
        return request, host
    health = msgspec.structs.replace(request.healthcheck, start_interval=0)
    return msgspec.structs.replace(request, healthcheck=health), host


def _non_recursive_read_only(request: CreateRequest, host: HostConfig) -> tuple[CreateRequest, HostConfig]:
    mounts = [
        msgspec.structs.replace(m, bind_options={**(m.bind_options or {}), "ReadOnlyNonRecursive": True})
        if m.type == "bind"
        else m
        for m in host.mounts or []
    ]
    return request, msgspec.structs.replace(host, mounts=mounts or host.mounts)


CREATE: tuple[CreateRule, ...] = (
    CreateRule(25, _set_host(auto_remove=False)),  # the client removed the container itself
    CreateRule(40, _default_host("ipc_mode", "shareable")),
    CreateRule(41, _default_host("cgroupns_mode", "host")),
    CreateRule(42, _set_host(console_size=None)),
    CreateRule(43, _set_host(annotations=None)),
    CreateRule(44, _no_start_interval),
    CreateRule(44, _non_recursive_read_only),
)


def adapt_create(version: ApiVersion, request: CreateRequest) -> CreateRequest:
    """Return a create request as its version meant it."""
    host = request.host_config or HostConfig()
    for rule in CREATE:
        if version[1] < rule.before:
            request, host = rule.apply(request, host)
    return msgspec.structs.replace(request, host_config=host)
