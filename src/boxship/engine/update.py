"""Changes to a container's limits and restart policy (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import HostConfig, Resources, RestartPolicy


class UpdateRequest(Resources, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /containers/{id}/update: limits, and the restart policy."""

    restart_policy: RestartPolicy = RestartPolicy()


def apply_update(host: HostConfig, changes: dict[str, Any]) -> HostConfig:
    """Return the host configuration with the fields that are set in ``changes`` replaced, in Docker's sense of "set"."""
    try:
        wanted = msgspec.convert({k: v for k, v in changes.items() if v is not None}, UpdateRequest, strict=False)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"invalid JSON: {exc}") from exc
    replaced: dict[str, Any] = {}
    for name in Resources.__struct_fields__:
        value = getattr(wanted, name)
        if value not in (0, "", None, False, []):
            replaced[name] = value
    if wanted.nano_cpus:
        if host.cpu_period or host.cpu_quota:
            raise InvalidInput(
                "Conflicting options: Nano CPUs cannot be updated as CPU Period or CPU Quota has already been set"
            )
    elif (wanted.cpu_period or wanted.cpu_quota) and host.nano_cpus:
        raise InvalidInput("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
    memory = replaced.get("memory", host.memory)
    if replaced.get("memory", 0) > host.memory_swap > 0 and not wanted.memory_swap:
        raise InvalidInput(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    if 0 < replaced.get("memory_swap", 0) < memory:
        raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")
    if wanted.restart_policy.name:
        if host.auto_remove and wanted.restart_policy.name != "no":
            raise InvalidInput("Restart policy cannot be updated because AutoRemove is enabled for the container")
        replaced["restart_policy"] = wanted.restart_policy
    return msgspec.structs.replace(host, **replaced)
