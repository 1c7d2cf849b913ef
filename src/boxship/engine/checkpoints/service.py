"""Checkpoints as the API asks for them: ``api.backend.Checkpoints`` on top of the lifecycle and the shims."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from typing import TypeVar

from boxship.base.errors import BoxshipError, Conflict, NotSupported, SystemFailure
from boxship.engine import causes
from boxship.engine.checkpoints import directory as directories
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.files import ContainerFiles
from boxship.engine.lifecycle import Lifecycle, Restore
from boxship.engine.model import State
from boxship.engine.settings import EngineSettings
from boxship.runtime.checkpoints import worker

log = logging.getLogger(__name__)

_ANSWER_LIMIT = worker.TIME_LIMIT + 60.0  # seconds; CRIU has given up by then
_END_LIMIT = 30.0  # seconds in which the end of a container that was saved is seen
_NO_CRIU = 'exec: "criu": executable file not found in $PATH (checkpoints are made by CRIU: install its package where the engine runs)'

_Result = TypeVar("_Result")
Emit = Callable[[Container, str, dict[str, str]], None]


class CheckpointService:
    """Makes, lists and removes checkpoints, and starts containers from them.

    ``directory`` is everywhere a directory of the host, "" for the container's own.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        lifecycle: Lifecycle,
        index: ContainerIndex,
        files: ContainerFiles,
        emit: Emit,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._index = index
        self._files = files
        self._emit = emit

    async def resume(self) -> None:
        """Remove what a daemon and a shim that were killed left of checkpoints that they were making."""
        for container in self._index:
            for name in await asyncio.to_thread(directories.sweep, self._files.directory(container.id)):
                log.info("removed the unfinished checkpoint %s of container %s", name, container.id)

    async def list(self, ref: str, *, directory: str) -> list[str]:
        """Return the names of a container's checkpoints. Raises NotFound."""
        container = self._index.find(ref)

        def read() -> list[str]:
            with directories.opened(self._files.directory(container.id), directory) as fd:
                return directories.names(fd)

        return await _on_disk(read)

    async def create(self, ref: str, name: str, *, directory: str, exit: bool) -> None:
        """Save a running container; with ``exit`` it ends with that.

        Raises NotFound, Conflict, InvalidInput, NotSupported, and SystemFailure when CRIU fails: the container runs on then,
        and there is no checkpoint.
        """
        container = self._index.find(ref)
        if not container.status.alive or container.shim is None:
            raise Conflict(f"Container {ref} not running")
        if container.status.state is State.PAUSED:
            raise Conflict(f"Container {ref} is paused, unpause the container before the checkpoint")
        directories.check_name(name)
        criu = await self._check(container, f"Cannot checkpoint container {ref}")
        fd = await _on_disk(lambda: self._reserve(container, ref, name, directory))
        before = container.status.asked
        if exit:
            self._lifecycle.set_status(container, asked=causes.asked("checkpoint"))
        try:
            answer = await container.shim.ask(
                "checkpoint",
                {"criu": criu, "name": name, "leave_running": not exit, "bound": _bound(container)},
                [fd],
                timeout=_ANSWER_LIMIT,
            )
            if not answer.get("ok"):
                raise SystemFailure(str(answer.get("error", "the shim refused")))
        except BoxshipError as exc:
            if exit and container.status.alive:
                self._lifecycle.set_status(container, asked=before)
            raise SystemFailure(f"Cannot checkpoint container {ref}: {exc}") from exc
        finally:
            os.close(fd)
        if exit:
            async with asyncio.timeout(_END_LIMIT):
                await container.ended.wait()
        self._emit(container, "checkpoint", {})

    async def remove(self, ref: str, name: str, *, directory: str) -> None:
        """Remove a checkpoint. Raises NotFound."""
        container = self._index.find(ref)

        def remove() -> None:
            with directories.opened(self._files.directory(container.id), directory) as fd:
                directories.remove(fd, name, ref)

        await _on_disk(remove)

    async def restore(self, ref: str, name: str, *, directory: str) -> bool:
        """Start a container from a checkpoint; return False when it runs already.

        Raises NotFound, Conflict, NotSupported, Forbidden, InvalidInput when CRIU fails: the container is as before then.
        """
        container = self._index.find(ref)
        asked = causes.asked("start")
        if container.status.alive:
            return await self._lifecycle.start(container, asked)

        def open_images() -> int:
            with directories.opened(self._files.directory(container.id), directory) as fd:
                return directories.open_images(fd, name, f"/{container.spec.name}")

        images = await _on_disk(open_images)
        try:
            criu = await self._check(container, f"Cannot restore container {ref}")
            return await self._lifecycle.start(container, asked, restore=Restore(criu, images))
        finally:
            os.close(images)

    def _reserve(self, container: Container, ref: str, name: str, directory: str) -> int:
        """Return the directory, open, in which the checkpoint can be made."""
        directories.sweep(self._files.directory(container.id))  # what a shim that was killed left
        with directories.opened(self._files.directory(container.id), directory) as fd:
            directories.check_free(fd, name, ref)
            return os.dup(fd)

    async def _check(self, container: Container, complaint: str) -> str:
        """Return the path of CRIU. Raises NotSupported without one, and for what it cannot save and restore whole."""
        reason = self._obstacle(container)
        criu = None if reason else await asyncio.to_thread(shutil.which, "criu", path=worker.search_path())
        if criu is None:
            raise NotSupported(f"{complaint}: {reason or _NO_CRIU}")
        return os.path.abspath(criu)

    def _obstacle(self, container: Container) -> str:
        """Return why the container can be neither saved nor restored, "" if it can."""
        spec, host = container.spec, container.spec.host_config
        if self._settings.runtimes[host.runtime].path:
            return f"runtime {host.runtime} does not support checkpoints: use the default runtime"
        if self._settings.identity_of(host):
            return "checkpoint not supported on containers in a user namespace"
        for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode)):
            if mode.startswith("container:"):
                return f"checkpoint not supported on containers that share the {kind} namespace of another"
        for mount in spec.mounts:
            if mount.type == "image" or mount.idmap is not None:
                return "checkpoint not supported on containers with images or other owners in their mounts"
            if mount.subpath:
                return "checkpoint not supported on containers with a subpath of a volume"
        return ""


def _bound(container: Container) -> list[str]:
    return [mount.target for mount in container.spec.mounts if mount.type in ("bind", "volume")]


async def _on_disk(work: Callable[[], _Result]) -> _Result:
    try:
        return await asyncio.to_thread(work)
    except OSError as exc:
        raise SystemFailure(str(exc)) from exc
