"""Debugging shells: beside a running container, or in a throw-away one that shows a stopped container or an image.

A shell is an exec. Beside a running container it joins all namespaces of the container but for mounts, of which it gets a copy
with the toolbox in it (``runtime.toolbox``). For all else a container is made that ends with its shell: its root is a
new layer on top of the stopped container's, or the image's. Shells end with their client; the daemon may die meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from boxship.base.errors import BoxshipError, NotFound, NotSupported
from boxship.engine import causes
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.creation import Creator
from boxship.engine.debug import holders, toolbox
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.options import oci
from boxship.engine.processes.execs import Debugging, Exec, ExecService
from boxship.engine.settings import BUILTIN_RUNTIME, EngineSettings
from boxship.images import ImageService
from boxship.spec.boxship.debugging import DebugCreated, DebugRequest
from boxship.spec.docker.container import CreateRequest

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a client has to start its shell, and to ask for the exit code

_PTRACE = "CAP_SYS_PTRACE"


class DebugService:
    """Implements ``api.backend.Debugging``."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        index: ContainerIndex,
        creator: Creator,
        lifecycle: Lifecycle,
        execs: ExecService,
        images: ImageService,
    ) -> None:
        self._settings = settings
        self._index = index
        self._creator = creator
        self._lifecycle = lifecycle
        self._execs = execs
        self._images = images
        self._making = asyncio.Lock()
        self._watching: set[asyncio.Task[None]] = set()

    async def create(self, request: DebugRequest) -> DebugCreated:
        """Make ready a shell or command for ``request.target``; it is started as an exec."""
        tools = await self.tools()
        try:
            target = self._index.find(request.target)
        except NotFound:
            return await self._for_image(request, tools)
        if target.status.alive and not request.image:
            return self._beside(target, request, tools)
        if request.image:
            if not target.status.alive:
                raise NotSupported("tools of an image need a running container: start it, or leave --image out")
            wanted = holders.beside(target.spec, request.image, tools)
            return await self._in_holder("running", wanted, request, debugs=target.id)
        if self._settings.storage_driver != "overlay2":
            raise NotSupported(f"the storage driver {self._settings.storage_driver} cannot show a stopped container")
        wanted = holders.of_stopped(target.spec, tools)
        return await self._in_holder("stopped", wanted, request, debugs=target.id, beneath=target.id)

    async def tools(self) -> str:
        """Return the directory of the tools, made when it is first asked for. Raises SystemFailure on a host without any."""
        async with self._making:
            return await asyncio.to_thread(toolbox.ensure, self._settings.data_root)

    async def resume(self, containers: Iterable[Container]) -> None:
        """Remove the throw-away containers that a former daemon left without a shell; once, before the API listens."""
        for container in containers:
            if container.spec.debugs and not (container.status.alive and container.exec_ids):
                await self._remove(container)

    async def _for_image(self, request: DebugRequest, tools: str) -> DebugCreated:
        try:
            image = self._images.resolve(request.target)
        except BoxshipError as exc:
            raise NotFound(f"No such container or image: {request.target}") from exc
        return await self._in_holder("image", holders.of_image(image.id, tools), request, debugs=image.id)

    def _beside(self, target: Container, request: DebugRequest, tools: str) -> DebugCreated:
        if target.spec.host_config.runtime not in ("", BUILTIN_RUNTIME):
            raise NotSupported(f"runtime {target.spec.host_config.runtime} does not support debugging")
        debugging = Debugging(process=partial(_with_tools, tools))
        execution = self._execs.debug(target, _exec_config(request), debugging)
        return DebugCreated(id=execution.id, kind="running", container=target.id)

    async def _in_holder(
        self, kind: str, wanted: CreateRequest, request: DebugRequest, *, debugs: str, beneath: str = ""
    ) -> DebugCreated:
        created = await self._creator.create(None, wanted, debugs=debugs, beneath=beneath)
        holder = self._index.find(created.id)

        async def start() -> None:
            await self._lifecycle.start(holder, causes.own("debug"))

        debugging = Debugging(process=_with_path, prepare=start)
        try:
            execution = self._execs.debug(holder, _exec_config(request), debugging)
        except BaseException:
            await self._remove(holder)
            raise
        task = asyncio.get_running_loop().create_task(self._watch(holder, execution))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return DebugCreated(id=execution.id, kind=kind, container=holder.id)

    async def _watch(self, holder: Container, execution: Exec) -> None:
        """Remove a container whose shell nobody started; forget one that has ended when its client knows the exit code."""
        removed = holder.removal()
        try:
            async with asyncio.timeout(PATIENCE):
                await execution.begun.wait()
        except TimeoutError:
            await self._remove(holder)
        await removed
        await asyncio.sleep(PATIENCE)
        self._execs.forget(holder)

    async def _remove(self, holder: Container) -> None:
        try:
            await self._lifecycle.remove(holder, causes.own("debug"), volumes=True, force=True)
        except BoxshipError as exc:
            log.warning("container %s of a debugging shell is left: %s", holder.id, exc)


def _exec_config(request: DebugRequest) -> Any:
    words = [request.cmd] if isinstance(request.cmd, str) else list(request.cmd or [])
    return msgspec.structs.replace(request, cmd=words or ["sh"], user=request.user or "0")


def _with_path(process: dict[str, Any]) -> dict[str, Any]:
    """Return the process with the tools in its PATH, before the target's own programs, which may be broken."""
    path = next((entry[5:] for entry in reversed(process["env"]) if entry.startswith("PATH=")), "")
    value = f"PATH={holders.TOOLS}:{path}" if path else f"PATH={holders.TOOLS}"
    return {**process, "env": oci.replace_env(process["env"], [value])}


def _with_tools(tools: str, process: dict[str, Any]) -> dict[str, Any]:
    """Return the process with its own view of the container's mounts, and with what tracing needs."""
    capabilities = {
        name: held if _PTRACE in held or name in ("inheritable", "ambient") else [*held, _PTRACE]
        for name, held in process["capabilities"].items()
    }
    return {**_with_path(process), "capabilities": capabilities, "toolbox": tools}
