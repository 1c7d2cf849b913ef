"""Changes to a container's limits and restart policy (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from boxship.base.errors import Conflict, InvalidInput
from boxship.spec.docker.container import HostConfig, Resources, RestartPolicy


class UpdateRequest(Resources, frozen=True, kw_only=True, rename="pascal"):
    """Body of POST /containers/{id}/update: limits, and the restart policy."""

    restart_policy: RestartPolicy = RestartPolicy()


def apply_update(host: HostConfig, changes: dict[str, Any]) -> HostConfig:
    """Return the host configuration with the fields that are set in ``changes`` replaced, in Docker's sense of "set".

    Raises Conflict for changes that do not go with what stands there; whether the result is sound is not asked here.
    """
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
            which = "CPU Period" if host.cpu_period else "CPU Quota"
            raise Conflict(f"Conflicting options: Nano CPUs cannot be updated as {which} has already been set")
    elif (wanted.cpu_period or wanted.cpu_quota) and host.nano_cpus:
        which = "CPU Period" if wanted.cpu_period else "CPU Quota"
        raise Conflict(f"Conflicting options: {which} cannot be updated as NanoCPUs has already been set")
    # Docker compares with what stands there also when that means "none" (0) or "any" (-1).
    if replaced.get("memory", 0) > host.memory_swap and not wanted.memory_swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    if wanted.restart_policy.name:
        if host.auto_remove and wanted.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        replaced["restart_policy"] = wanted.restart_policy
    return msgspec.structs.replace(host, **replaced)
