"""Device requests of a container (``--gpus``, ``--device vendor.com/class=name``) and the CDI devices they mean (blocking).

Nothing but the request counts: no label, annotation or variable of an image chooses a device.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from boxship.base.errors import SystemFailure
from boxship.engine.cdi import model, registry
from boxship.spec.docker.container import DeviceRequest

_GPU_KINDS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}  # by driver, in the order of preference
_GPU_CAPABILITIES = {"gpu", "nvidia", "amd", "compute", "compat32", "graphics", "utility", "video", "display"}


def resolve(requests: Sequence[DeviceRequest], directories: Sequence[str]) -> list[model.Edits]:
    """Return what the requested devices add to a container. Raises SystemFailure in Docker's words."""
    if not requests:
        return []
    found = registry.scan(directories)
    names = [
        name
        for request in requests
        for name in (_named(request) if request.driver == "cdi" and directories else _gpus(request, found))
    ]
    return registry.edits(found, names)


def _named(request: DeviceRequest) -> list[str]:
    if request.count:
        raise SystemFailure("unexpected count in CDI device request")
    if request.options:
        raise SystemFailure("unexpected options in CDI device request")
    return request.device_ids or []


def _gpus(request: DeviceRequest, found: registry.Found) -> list[str]:
    """Return the CDI names of the GPUs of one ``--gpus``."""
    kind = next((kind for driver, kind in _GPU_KINDS.items() if _suits(request, driver, kind, found)), None)
    if kind is None:
        wanted = json.dumps(request.capabilities or [], separators=(",", ":")).replace('"', "").replace(",", " ")
        raise SystemFailure(f'could not select device driver "{request.driver}" with capabilities: {wanted}')
    if request.count and request.device_ids:
        raise SystemFailure("cannot set both Count and DeviceIDs on device request")
    if request.count < 0:
        everything = f"{kind}=all"
        if everything in found.devices:
            return [everything]
        return sorted(name for name in found.devices if name.startswith(f"{kind}="))
    return [f"{kind}={id}" for id in request.device_ids or map(str, range(request.count))]


def _suits(request: DeviceRequest, driver: str, kind: str, found: registry.Found) -> bool:
    return (
        request.driver in ("", driver)
        and any("gpu" in wanted and set(wanted) <= _GPU_CAPABILITIES for wanted in request.capabilities or [])
        and any(name.startswith(f"{kind}=") for name in found.devices)
    )
