"""The first minutes of a daemon: meet the shims, compare store, disk and kernel, and repair what a crash left.

Nothing that runs is touched. What no row names is removed; what a row names and the kernel has lost is written down as
ended. The order matters: who is alive is known before networks sweep what nobody claims.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from boxship.base import clock
from boxship.base.errors import BoxshipError, DeadlineExceeded, SystemFailure
from boxship.engine import causes, image_trees, remains, restart
from boxship.engine.container import Container
from boxship.engine.files import ContainerFiles
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.model import State
from boxship.engine.processes.execs import ExecService
from boxship.engine.processes.shims import Shim, connect
from boxship.engine.rows import ContainerRows
from boxship.engine.settings import EngineSettings
from boxship.networks import NetworkService
from boxship.snapshots import Snapshotter
from boxship.volumes import VolumeService

log = logging.getLogger(__name__)

MEET_TIMEOUT = 5.0  # seconds for a shim to say what it has; they are asked together
UNKNOWN_END = 255  # the exit code of a container whose end nobody saw, as Docker gives it


class Repair:
    """Runs once, before the API listens."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        rows: ContainerRows,
        lifecycle: Lifecycle,
        execs: ExecService,
        files: ContainerFiles,
        snapshotter: Snapshotter,
        networks: NetworkService,
        volumes: VolumeService,
    ) -> None:
        self._settings = settings
        self._rows = rows
        self._lifecycle = lifecycle
        self._execs = execs
        self._files = files
        self._snapshotter = snapshotter
        self._networks = networks
        self._volumes = volumes

    async def run(self) -> None:
        """Bring memory, store, disk and kernel to one state."""
        containers = [Container(spec, status) for spec, status in await asyncio.to_thread(self._rows.load)]
        for container in containers:
            self._lifecycle.index.add(container)
        aside = await asyncio.to_thread(self._rows.aside)
        records = await asyncio.gather(*(self._meet(container) for container in containers))
        ended = {c.id: record for c, record in zip(containers, records, strict=True) if record is not None}
        living = {
            c.id: c.status.sandbox for c in containers if c.status.alive and c.id not in ended and c.status.sandbox
        }
        living |= {id: status.sandbox for id, status in aside.items() if status.alive and status.sandbox}
        await self._networks.start(living)
        await self._sweep(containers, set(aside))
        for container in containers:
            await self._settle(container, ended.get(container.id))

    async def _meet(self, container: Container) -> dict[str, Any] | None:
        """Connect to the container's shim; return the record of its end when there is no living process."""
        status = container.status
        started = await asyncio.to_thread(self._files.state_record, container.id)
        shim: Shim | None = None
        answer: dict[str, Any] = {}
        try:
            sock = await asyncio.to_thread(connect, self._files.state_dir(container.id))
            shim = self._lifecycle.adopt(container, sock)
            answer = await shim.ask("status", timeout=MEET_TIMEOUT)
        except OSError:
            pass
        except DeadlineExceeded:
            # Stopped, or starved: it is there, so its container is, until it says otherwise.
            log.warning("the shim of container %s does not answer", container.id)
            if started is not None and self._files.exit_record(container.id) is None:
                answer = {**started, "state": "running"}
        except BoxshipError:
            if shim is not None:
                shim.close()
        if shim is not None and answer.get("state") == "running":
            state = status.state if status.state is State.PAUSED else State.RUNNING
            container.ended.clear()
            self._lifecycle.set_status(
                container, state=state, pid=int(answer["pid"]), started_ns=int(answer["started_at"])
            )
            for id, execution in (answer.get("execs") or {}).items():
                self._execs.adopt(container, id, int(execution["pid"]))
            return None
        record = answer.get("exit") or self._files.exit_record(container.id)
        if record is not None and (status.alive or int(record["finished_at"]) > status.finished_ns):
            if started is None and not status.alive:
                return None
            container.ended.clear()
            self._lifecycle.set_status(
                container,
                state=State.RUNNING,
                started_ns=int((started or {}).get("started_at", status.started_ns)),
            )
            return {**record, "daemon_down": True}
        if status.alive:
            reason = causes.of_lost(status.boot_id, causes.boot_id())
            return {"code": UNKNOWN_END, "finished_at": clock.now_ns(), "daemon_down": True, "reason": reason}
        return None

    async def _sweep(self, containers: list[Container], aside: set[str]) -> None:
        """Remove what belongs to no container; what is of those in quarantine stays as it is, running or not."""
        ids = {container.id for container in containers} | aside
        directories, shims = await asyncio.to_thread(self._files.known)
        connected = {container.id for container in containers if container.shim is not None}
        for id in shims - connected - aside:
            record = await asyncio.to_thread(self._files.state_record, id)
            if record is not None and id in ids:
                await asyncio.to_thread(remains.clear, record)
        for id in shims - ids:
            await self._end_stray(id)
        for id in (directories | shims) - ids:
            await asyncio.to_thread(self._files.remove, id)
        mounted = {container.id for container in containers if container.status.alive} | aside
        await asyncio.to_thread(self._sweep_blocking, ids, mounted)
        used = {c.id: {mount.name for mount in c.spec.mounts if mount.type == "volume"} for c in containers}
        if aside:  # nobody knows which volumes are theirs: what they have they keep
            used |= dict.fromkeys(aside, self._volumes.names())
        await self._volumes.release_unknown(used, mounted)

    async def _end_stray(self, id: str) -> None:
        """Kill a container that no row names: its create or removal was cut off."""
        try:
            sock = await asyncio.to_thread(connect, self._files.state_dir(id))
        except OSError:
            record = await asyncio.to_thread(self._files.state_record, id)
            if record is not None:
                await asyncio.to_thread(remains.clear, record)
            return
        gone = asyncio.Event()
        shim = Shim(sock, lambda event: shim.close() if event["event"] == "exited" else None, gone.set)
        with contextlib.suppress(BoxshipError):
            await shim.kill(9, all=True)
            async with asyncio.timeout(10):
                await gone.wait()
        shim.close()

    def _sweep_blocking(self, ids: set[str], mounted: set[str]) -> None:
        owners = {each.key: image_trees.owner_of(each.key) for each in self._snapshotter.list()}
        in_use = {key for key, owner in owners.items() if owner in mounted}
        for key in self._snapshotter.cleanup(mounted=in_use).remade:
            log.warning("the writable layer of container %s was missing and is as new, as after a power cut", key)
        for snapshot in self._snapshotter.list():
            if not snapshot.committed and image_trees.owner_of(snapshot.key) not in ids:
                log.info("removing the writable layer %s, which no container names", snapshot.key)
                self._snapshotter.remove(snapshot.key)

    async def _settle(self, container: Container, record: dict[str, Any] | None) -> None:
        """Finish what was under way for this container when the former daemon ended."""
        if not await asyncio.to_thread(self._files.written, container.id):
            try:
                await asyncio.to_thread(self._files.create, container.spec, container.status)
            except SystemFailure as exc:  # a full disk, on which the engine is wanted to make room
                log.warning("the files of container %s could not be written: %s", container.id, exc)
        if record is not None:
            self._lifecycle.exited(container, record)
            return
        status, policy = container.status, container.spec.host_config.restart_policy
        if status.alive:
            await self._lifecycle.freezing_as_wanted(container)
            await self._lifecycle.save(container)
            return
        if status.sandbox is not None:
            self._lifecycle.set_status(container, sandbox=None)
            await self._lifecycle.save(container)
        if status.state in (State.REMOVING, State.DEAD) or (
            container.spec.host_config.auto_remove and status.started_ns
        ):
            self._lifecycle.remove_later(container)
        elif status.state is State.RESTARTING or (
            status.state is State.EXITED
            and restart.restarts_at_boot(
                policy,
                stopped_by_user=status.stopped_by_user,
                exit_code=status.exit_code,
                wanted_running=status.wanted_running,
            )
        ):
            self._lifecycle.start_later(container)
