"""What happens to a container from its start to its removal, and how a restarted daemon finds its containers again.

Order of truth: the kernel and the shims first, then the store. Every step that acquires something registers its release, so
that a failed start leaves nothing; a killed daemon leaves only what :mod:`boxship.engine.repair` recognises. The in-memory
status changes synchronously as the shim's events arrive, in their order; rows follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal as signals
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Protocol

import msgspec

from boxship.base import clock, failpoints
from boxship.base.errors import BoxshipError, Conflict, InvalidInput, NotFound, SystemFailure
from boxship.base.whole import whole
from boxship.engine import causes, image_trees, links, networking, remains, restart
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.creation import remove_snapshot
from boxship.engine.files import ContainerFiles
from boxship.engine.health import policy as health_policy
from boxship.engine.model import (
    NotRunning,
    State,
    check_name,
    unknown_user,
)
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options import identity, mounts, selinux
from boxship.engine.processes.launcher import Launcher
from boxship.engine.processes.shims import Shim, ShimGone
from boxship.engine.rows import ContainerRows
from boxship.engine.settings import EngineSettings
from boxship.engine.signals import parse_signal
from boxship.engine.start import StartComposer
from boxship.engine.volume_claims import mounted
from boxship.networks import NetworkService, Sandbox
from boxship.snapshots import Snapshotter
from boxship.volumes import VolumeService

log = logging.getLogger(__name__)

START_DEADLINE = 120.0  # seconds until a start that nobody answers is given up
CLEANUP_DEADLINE = 30.0  # seconds a shim has to unmount and to remove the cgroup
KILL_DEADLINE = 10  # seconds after SIGKILL until a container counts as stuck
DEFAULT_STOP_TIMEOUT = 10

Emit = Callable[[Container, str, dict[str, str]], None]


class Watcher(Protocol):
    """Follows what the containers do, synchronously; ``daemon.wiring`` passes the health monitor."""

    def started(self, container: Container) -> None:
        """A new run of the container began."""

    def changed(self, container: Container) -> None:
        """The container was paused, goes on, ended, or has other limits."""

    async def close(self) -> None:
        """Follow no more: the daemon ends."""


class Watchers:
    """Several watchers as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def started(self, container: Container) -> None:
        """A new run of the container began."""
        for watcher in self._watchers:
            watcher.started(container)

    def changed(self, container: Container) -> None:
        """The container was paused, goes on, ended, or has other limits."""
        for watcher in self._watchers:
            watcher.changed(container)

    async def close(self) -> None:
        """Follow no more: the daemon ends."""
        for watcher in self._watchers:
            await watcher.close()


class Restore(NamedTuple):
    """A start from a checkpoint; ``images`` is its directory, open, and stays the caller's."""

    criu: str  # the program
    images: int


class StartFailed(InvalidInput):
    """The program could not be started; ``exit_code`` is what a shell would give (126, 127, else 128)."""

    def __init__(self, message: str, exit_code: int, *, restore: bool = False) -> None:
        # Docker looks up users itself, before any runtime: without the runtime's words.
        if not unknown_user(message):
            verb = "restore" if restore else "create"
            message = f"failed to create task for container: failed to create shim task: OCI runtime {verb} failed: {message}: unknown"
        super().__init__(message)
        self.exit_code = exit_code


class Lifecycle:
    """Starts, stops and removes containers, and follows their shims.

    Cancelling a request leaves the container consistent: steps that must not be torn run as tasks of their own.
    """

    def __init__(
        self,
        settings: EngineSettings,
        sysinfo: SysInfo,
        *,
        rows: ContainerRows,
        index: ContainerIndex,
        snapshotter: Snapshotter,
        networks: NetworkService,
        volumes: VolumeService,
        launcher: Launcher,
        composer: StartComposer,
        files: ContainerFiles,
        emit: Emit,
        exec_exited: Callable[[Container, dict[str, Any]], None],
        watcher: Watcher,
    ) -> None:
        self._settings = settings
        self._sysinfo = sysinfo
        self._rows = rows
        self.index = index
        self._snapshotter = snapshotter
        self._networks = networks
        self._volumes = volumes
        self._launcher = launcher
        self._composer = composer
        self._files = files
        self._emit = emit
        self._exec_exited = exec_exited
        self._watcher = watcher
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._boot_id = causes.boot_id()

    # -- start -------------------------------------------------------------------------------------------------------

    async def start(self, container: Container, asked: causes.Request, *, restore: Restore | None = None) -> bool:
        """Start a container; return False when it runs already. Removes an auto-remove container that cannot start."""
        async with container.lock:
            status = container.status
            if status.state is State.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if status.state is State.RUNNING:
                return False
            if status.state in (State.REMOVING, State.DEAD):
                raise Conflict("container is marked for removal and cannot be started")
            container.cancel_restart()
            container.restart_delay = 0.0
            try:
                await self._whole(self._start(container, restart_count=0, asked=asked, restore=restore))
            except BaseException:
                if container.spec.host_config.auto_remove and container.status.state is not State.RUNNING:
                    await self._remove_stopped(container, volumes=True)
                raise
        failpoints.hit("start.done")
        return True

    async def _start(
        self, container: Container, *, restart_count: int, asked: causes.Request, restore: Restore | None = None
    ) -> None:
        await self._shim_gone(container)
        try:
            async with AsyncExitStack() as undo:
                await self._start_steps(container, undo, restart_count, asked, restore)
                undo.pop_all()
        except BoxshipError as exc:
            code = exc.exit_code if isinstance(exc, StartFailed) else 128
            ending = causes.of_failed_start(str(exc), code, request=asked, restarts=restart_count)
            self.set_status(container, error=str(exc), exit_code=code, sandbox=None, ending=ending)
            for client in container.attaching:
                os.close(client.fd)
            container.attaching.clear()
            await self.save(container)
            container.wake_exit()
            raise

    async def _start_steps(
        self,
        container: Container,
        undo: AsyncExitStack,
        restart_count: int,
        asked: causes.Request,
        restore: Restore | None,
    ) -> None:
        spec = container.spec
        await mounts.make_sources(spec.mounts, self._settings.owner)
        if spec.mount_label:
            await asyncio.to_thread(selinux.relabel, spec.mounts, spec.mount_label)
        sandbox = await self._sandbox(container)
        if sandbox is not None:
            undo.push_async_callback(self._networks.release, sandbox)
            self.set_status(container, sandbox=sandbox)
            await self.save(container)
        undo.callback(self._surroundings_left, container, sandbox)
        self._surroundings_entered(container, sandbox)
        now = await mounted(self._volumes, container.id, spec.mounts)
        if now != spec.mounts:
            container.spec = spec = msgspec.structs.replace(spec, mounts=now)
            await self._rows.save_both(spec, container.status)
        failpoints.hit("start.after-sandbox")
        document = await self._composer.compose(container, self.index)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        started: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        container.starting = started
        self.set_status(
            container,
            restart_count=restart_count,
            error="",
            oom_killed=False,
            wanted_running=True,
            # Until it is back, a daemon that starts anew must not start it in place of what was saved.
            stopped_by_user=restore is not None,
            stopped_as_unhealthy=False,
            boot_id=self._boot_id,
            started_by=asked,
            asked=None,
        )
        clients, container.attaching = container.attaching, []
        document["attach"] = [client.request() for client in clients]
        images = [] if restore is None else [restore.images]
        if restore is not None:
            document["checkpoint"] = {"criu": restore.criu}
        try:
            self.adopt(container, ours)
            with theirs:
                await self._launcher.shim(document, [theirs.fileno(), *(client.fd for client in clients), *images])
        finally:
            for client in clients:
                os.close(client.fd)
        failpoints.hit("start.after-launch")
        try:
            async with asyncio.timeout(START_DEADLINE):
                answer = await started
        except TimeoutError:
            raise SystemFailure("the container did not start in time") from None
        finally:
            container.starting = None
        if answer.get("event") != "running":
            error, code = str(answer.get("error", "the shim ended")), int(str(answer.get("code", 128)))
            raise StartFailed(error, code, restore=restore is not None)
        if restore is not None and container.status.alive:
            self.set_status(container, stopped_by_user=False)
        failpoints.hit("start.after-running")
        await asyncio.to_thread(self._tell_linked, container)
        await self._hand_over_late(container)
        await self.save(container)

    def _tell_linked(self, container: Container) -> None:
        """Write the new address into the files of running containers that are linked to this one; blocking."""
        for other in self.index:
            if other.status.alive and any(link.target is container for link in links.of(other.spec, self.index)):
                self._composer.write_files(other, self.index)

    async def remove_link(self, ref: str) -> None:
        """Remove a link that is named ``container/alias``. Raises NotFound."""
        parent, slash, alias = ref.removeprefix("/").rpartition("/")
        if not slash:
            raise NotFound(f"Cannot get parent / for name {ref}")
        container = self.index.find(parent)
        async with container.lock:
            spec = links.without(container.spec, alias)
            await self._rows.save_both(spec, container.status)
            container.spec = spec
            if container.status.alive:
                await asyncio.to_thread(self._composer.write_files, container, self.index)

    async def _hand_over_late(self, container: Container) -> None:
        """Give the shim the clients that attached while it was being started."""
        late, container.attaching = container.attaching, []
        for client in late:
            if container.shim is None:
                os.close(client.fd)
                continue
            with contextlib.suppress(BoxshipError):
                await container.shim.attach(client)

    async def _sandbox(self, container: Container) -> Any:
        spec = container.spec
        mode = spec.host_config.network_mode
        if mode == "host" or mode.startswith("container:"):
            return None
        owner = identity.wanted_namespace(spec.host_config, self._settings.identity_of(spec.host_config), self.index)
        return await self._networks.attach(networking.attach_request(spec, networking.connections(spec), owner))

    def _surroundings_entered(self, container: Container, sandbox: Sandbox | None) -> None:
        """Tell of the networks and volumes that a container which starts has now."""
        for network in _networks_of(container, sandbox):
            self._networks.connected(network, container.id)
        for mount in container.spec.mounts:
            if mount.type == "volume":
                self._volumes.mounted(
                    mount.name,
                    container.id,
                    destination=mount.target,
                    read_only=mount.read_only,
                    propagation="" if mount.propagation == "rprivate" else mount.propagation,
                )

    def _surroundings_left(self, container: Container, sandbox: Sandbox | None) -> None:
        """Tell that nothing of the container uses them any more, before its next start can say the opposite."""
        for network in _networks_of(container, sandbox):
            self._networks.disconnected(network, container.id)
        for mount in container.spec.mounts:
            if mount.type == "volume":
                self._volumes.unmounted(mount.name, container.id)

    def adopt(self, container: Container, sock: socket.socket) -> Shim:
        """Follow the shim at the other end of ``sock``."""
        shim = Shim(sock, lambda event: self._event(container, event), lambda: self._gone(container))
        container.shim = shim
        container.clean.clear()
        return shim

    # -- events of a shim, synchronous and in order -------------------------------------------------------------------

    def _event(self, container: Container, event: dict[str, Any]) -> None:
        match event["event"]:
            case "running":
                container.ended.clear()
                container.running_since = asyncio.get_running_loop().time()
                self.set_status(
                    container,
                    state=container.status.move(State.RUNNING),
                    pid=int(event["pid"]),
                    started_ns=int(event["started_at"]),
                    exit_code=0,
                )
                self._watcher.started(container)
                # Now, and not when the waiting task runs: a short program's end may be in the same batch of messages.
                self._emit(container, "start", {})
                self._answer_start(container, event)
            case "failed":
                self._answer_start(container, event)
            case "exited":
                self.exited(container, event)
            case "exec-exited":
                self._exec_exited(container, event)
            case "detached":
                self._emit(container, "exec_detach" if event.get("exec_id") else "detach", {})

    def _answer_start(self, container: Container, event: dict[str, Any]) -> None:
        if container.starting is not None and not container.starting.done():
            container.starting.set_result(event)

    def _gone(self, container: Container) -> None:
        container.shim = None
        self._answer_start(container, {"event": "failed", "error": "the shim ended", "code": 128})
        if not container.status.alive or self._closing:
            container.clean.set()
            return
        # Killed from outside: its record, if it could write one, says what became of the container.
        record = self._files.exit_record(container.id) or {
            "code": 128 + signals.SIGKILL,
            "finished_at": clock.now_ns(),
            "reason": causes.Reason.SHIM_KILLED,
        }
        self.exited(container, record)
        self._spawn(self._clear_remains(container))

    async def _clear_remains(self, container: Container) -> None:
        record = await asyncio.to_thread(self._files.state_record, container.id)
        if record is not None:
            await asyncio.to_thread(remains.clear, record)
        container.clean.set()

    def exited(self, container: Container, record: dict[str, Any]) -> None:
        """Take note of a container's end: status at once, then row, sandbox, restart or removal as tasks."""
        if not container.status.alive:
            return
        failpoints.hit("exit.before-row")
        finished = int(record["finished_at"])
        uptime = container.uptime(finished)
        sandbox = container.status.sandbox
        policy = container.spec.host_config.restart_policy
        code = int(record["code"])
        unhealthy, health = container.status.stopped_as_unhealthy, container.status.health
        told = container.status.oom_killed
        failure, by_user = code or int(unhealthy), container.status.stopped_by_user or bool(record.get("checkpoint"))
        delay = restart.next_delay(
            policy,
            exit_code=failure,
            # A run that was never healthy is a failed try, however long it was.
            uptime=0.0 if unhealthy and health and not health.passed else uptime,
            restarts=container.status.restart_count,
            previous=container.restart_delay,
            stopped_by_user=by_user or self._closing,
        )
        ending = causes.of_end(
            record,
            request=container.status.asked,
            health=health,
            unhealthy=unhealthy,
            uptime=uptime,
            restarts=container.status.restart_count,
            decision=causes.Decision(
                policy=restart.policy_text(policy),
                delay=delay,
                reason=""
                if delay is not None
                else restart.why_not(policy, exit_code=failure, stopped_by_user=by_user, closing=self._closing),
            ),
        )
        state = State.EXITED if delay is None else State.RESTARTING
        self.set_status(
            container,
            state=container.status.move(state),
            pid=0,
            exit_code=code,
            oom_killed=bool(record.get("oom")),
            finished_ns=finished,
            stopped_by_user=by_user,
            sandbox=None,
            ending=ending,
        )
        self._watcher.changed(container)
        container.ended.set()
        if container.status.oom_killed and not told:
            self._emit(container, "oom", {})
        self._emit(container, "die", {"exitCode": str(code), "execDuration": str(int(uptime))})
        self._surroundings_left(container, sandbox)
        if delay is not None:
            container.restart_delay = delay
            container.restart_timer = self._spawn(self._restart_after(container, delay))
        container.leaving = delay is None
        self._spawn(self._after_exit(container, sandbox, final=delay is None), name=f"exit:{container.id}")

    def out_of_memory(self, container: Container) -> None:
        """Note that the kernel lacks memory for a running container, and that it kills a process of it."""
        self.set_status(container, oom_killed=True)
        self._emit(container, "oom", {})

    def limits_changed(self, container: Container) -> None:
        """Let the watchers follow a container's other limits."""
        self._watcher.changed(container)

    async def _after_exit(self, container: Container, sandbox: Any, *, final: bool) -> None:
        try:
            await self.save(container)
        finally:
            container.leaving = False
        failpoints.hit("exit.after-row")
        if final and not container.spec.host_config.auto_remove:
            container.wake_exit()
        if sandbox is not None:
            await self._networks.release(sandbox)
        if final and container.spec.host_config.auto_remove:
            async with container.lock:
                if container.status.state is State.EXITED:
                    await self._remove_stopped(container, volumes=True)

    async def _restart_after(self, container: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        async with container.lock:
            container.restart_timer = None
            if container.status.state is not State.RESTARTING:
                return
            try:
                await self._start(
                    container, restart_count=container.status.restart_count + 1, asked=causes.own("restart-policy")
                )
            except BoxshipError as exc:
                log.warning("restart of %s failed: %s", container.id, exc)
                self.set_status(container, state=container.status.move(State.EXITED))
                await self.save(container)
                container.wake_exit()

    # -- stop, kill, pause -------------------------------------------------------------------------------------------

    async def kill(self, container: Container, signal: int, *, ref: str, asked: causes.Request) -> None:
        """Send a signal to the first process; return from SIGKILL when that has ended, as Docker does."""
        if not container.status.alive or container.shim is None:
            raise Conflict(f"Cannot kill container: {ref}: Container {container.id} is not running")
        if signal in (signals.SIGKILL, self._stop_signal(container)):
            self.set_status(container, stopped_by_user=True, wanted_running=False)
        self.set_status(container, asked=asked)
        await self._save_if_possible(container)  # before it has an effect: a daemon killed in between would not know
        await self._signal(container, signal)  # unless it ended meanwhile
        if signal == signals.SIGKILL and not await self._killed(container):
            raise _stuck(container)

    async def stop(
        self,
        container: Container,
        asked: causes.Request,
        *,
        timeout: int | None,
        signal: int | None,
        by_user: bool = True,
    ) -> bool:
        """Stop a container: signal, wait ``timeout`` seconds (-1 for ever), SIGKILL. Return False when it was stopped."""
        stopped = await self._stop(container, asked, timeout=timeout, signal=signal, by_user=by_user)
        if stopped:
            self._emit(container, "stop", {})
        return stopped

    async def _stop(
        self, container: Container, asked: causes.Request, *, timeout: int | None, signal: int | None, by_user: bool
    ) -> bool:
        if container.status.state is State.RESTARTING:
            container.cancel_restart()
            self.set_status(
                container,
                state=container.status.move(State.EXITED),
                stopped_by_user=by_user,
                wanted_running=False,
                asked=asked,
            )
            await self.save(container)
            container.wake_exit()
            return True
        if not container.status.alive:
            return False
        if timeout is None:
            own = container.spec.config.stop_timeout
            timeout = DEFAULT_STOP_TIMEOUT if own is None else own
        number = signal or self._stop_signal(container)
        self.set_status(
            container,
            stopped_by_user=by_user or container.status.stopped_by_user,
            wanted_running=False,
            asked=msgspec.structs.replace(asked, signal=number, timeout=timeout),
        )
        await self._save_if_possible(container)  # before it has an effect: a daemon killed in between would not know
        await self._signal(container, number)
        if container.status.state is State.PAUSED:
            await asyncio.to_thread(self._composer.cgroup(container).thaw)
        if number != signals.SIGKILL and not await _within(container.ended, None if timeout < 0 else timeout):
            number = signals.SIGKILL
            await self._signal(container, number)
        if number == signals.SIGKILL and not await self._killed(container):
            raise _stuck(container)
        return True

    async def _killed(self, container: Container) -> bool:
        """Wait for the end after SIGKILL; return False when the container resists."""
        # A frozen process does not get it on cgroup v1. Our own status need not tell: others freeze too, also meanwhile, and a
        # daemon may have died between freezing and saying so.
        for _ in range(KILL_DEADLINE):
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._composer.cgroup(container).thaw)
            if await _within(container.ended, 1.0):
                return True
        return False

    async def _signal(self, container: Container, number: int) -> None:
        if container.shim is None or not container.status.alive:
            return
        self._emit(container, "kill", {"signal": str(number)})  # before the "die" that may follow at once
        with contextlib.suppress(ShimGone):
            await container.shim.kill(number)

    async def restart(
        self, container: Container, asked: causes.Request, *, timeout: int | None, signal: int | None
    ) -> None:
        """Stop and start again; an auto-remove container survives this."""
        async with container.lock:
            await self.restart_locked(container, asked, timeout=timeout, signal=signal)

    async def restart_locked(
        self,
        container: Container,
        asked: causes.Request,
        *,
        timeout: int | None,
        signal: int | None,
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Restart a container whose lock the caller holds; ``stopped`` is called between the two halves."""
        if container.status.alive or container.status.state is State.RESTARTING:
            keep = container.spec
            container.spec = msgspec.structs.replace(
                keep, host_config=msgspec.structs.replace(keep.host_config, auto_remove=False)
            )
            try:
                await self.stop(container, asked, timeout=timeout, signal=signal)
                await self._settled(container)
            finally:
                container.spec = keep
        stopped()
        await self.start_locked(container, asked)
        self._emit(container, "restart", {})

    async def start_locked(self, container: Container, asked: causes.Request) -> None:
        """Start a stopped container whose lock the caller holds."""
        await self._whole(self._start(container, restart_count=0, asked=asked))

    def restart_unhealthy(self, container: Container) -> None:
        """Restart a container that its probes find unhealthy, in the background, if its user asked for that.

        It is stopped as ``stop`` would; then its restart policy has it as failed, with the usual delays.
        """
        status = container.status
        name = f"unhealthy:{container.id}"
        if not health_policy.restart_wanted(container.spec.config) or any(t.get_name() == name for t in self._tasks):
            return
        allowed = restart.next_delay(
            container.spec.host_config.restart_policy,
            exit_code=1,
            uptime=0.0,
            restarts=status.restart_count,
            previous=0.0,
            stopped_by_user=status.stopped_by_user or self._closing,
        )
        if allowed is None:
            return
        log.warning("container %s is unhealthy and will be restarted", container.id)
        self.set_status(container, stopped_as_unhealthy=True)
        self._spawn(self._stop_unhealthy(container), name=name)

    async def _stop_unhealthy(self, container: Container) -> None:
        try:
            await self.save(container)
            if not container.status.stopped_as_unhealthy:
                return  # somebody else restarted it meanwhile
            await self.stop(container, causes.own("unhealthy"), timeout=None, signal=None, by_user=False)
        except BoxshipError as exc:
            log.warning("unhealthy container %s did not stop: %s", container.id, exc)
            self.set_status(container, stopped_as_unhealthy=False)  # the next probe tries again

    async def pause(self, container: Container) -> None:
        """Freeze all processes."""
        if container.status.state is State.PAUSED:
            raise Conflict(f"Container {container.id} is already paused")
        if container.status.state is not State.RUNNING:
            raise NotRunning(container.id)
        try:
            await asyncio.to_thread(self._composer.cgroup(container).freeze)
        except OSError as exc:
            raise SystemFailure(f"Cannot pause container {container.id}: {exc}") from exc
        if container.status.state is State.RUNNING:
            self.set_status(container, state=State.PAUSED)
            self._watcher.changed(container)
            await self.save(container)
            self._emit(container, "pause", {})

    async def unpause(self, container: Container) -> None:
        """Thaw all processes."""
        if container.status.state is not State.PAUSED:
            raise Conflict(f"Container {container.id} is not paused")
        try:
            await asyncio.to_thread(self._composer.cgroup(container).thaw)
        except OSError as exc:
            raise SystemFailure(f"Cannot unpause container {container.id}: {exc}") from exc
        if container.status.state is State.PAUSED:
            self.set_status(container, state=State.RUNNING)
            self._watcher.changed(container)
            await self.save(container)
            self._emit(container, "unpause", {})

    async def freezing_as_wanted(self, container: Container) -> None:
        """Bring state and cgroup together after a daemon that died between the two: only who was paused stays frozen."""
        status = container.status
        try:
            cgroup = self._composer.cgroup(container)
            frozen = await asyncio.to_thread(cgroup.frozen)
            if frozen and (status.held_still or status.state is State.RUNNING):
                await asyncio.to_thread(cgroup.thaw)
                frozen = False
        except OSError as exc:
            log.warning("container %s: it is not known whether it is paused: %s", container.id, exc)
            return
        if not frozen and status.state is State.PAUSED:
            self.set_status(container, state=State.RUNNING)
        self.set_status(container, held_still=False)

    def _stop_signal(self, container: Container) -> int:
        try:
            return parse_signal(container.spec.config.stop_signal or "SIGTERM")
        except InvalidInput:
            return signals.SIGTERM  # the image's, and not a signal: Docker does not mind either

    # -- rename, remove ----------------------------------------------------------------------------------------------

    async def rename(self, container: Container, name: str) -> None:
        """Give a container another name."""
        if not name:
            raise InvalidInput("Neither old nor new names may be empty")
        old = container.spec.name
        try:
            new = check_name(name)
        except InvalidInput as exc:
            raise InvalidInput(f"Error when allocating new name: {exc}") from exc
        async with container.lock:
            if new == old:
                raise InvalidInput("Renaming a container with the same name as its current name")
            spec = msgspec.structs.replace(container.spec, name=new)
            await self._rows.rename(spec, old)
            container.spec = spec
            self.index.rename(container, old)
            self._networks.rename(spec.id, new)
            await asyncio.to_thread(self._files.save, spec, container.status)
        self._emit(container, "rename", {"oldName": f"/{old}"})

    async def remove(self, container: Container, asked: causes.Request, *, volumes: bool, force: bool) -> None:
        """Remove a container with all that belongs to it."""
        if container.status.state is State.REMOVING and container.lock.locked():
            raise Conflict(f"removal of container {container.id} is already in progress")
        async with container.lock:
            if self.index.by_id(container.id) is not container:
                return  # an automatic removal was quicker
            if container.status.alive or container.status.state is State.RESTARTING:
                if not force:
                    state, advice = (
                        ("paused", "Unpause and then stop")
                        if container.status.state is State.PAUSED
                        else ("running", "Stop")
                    )
                    raise Conflict(
                        f"You cannot remove a {state} container {container.id}. "
                        f"{advice} the container before attempting removal or force remove"
                    )
                await self._stop(container, asked, timeout=0, signal=signals.SIGKILL, by_user=True)
            container.cancel_restart()
            await self._whole(self._remove_stopped(container, volumes=volumes))

    async def _remove_stopped(self, container: Container, *, volumes: bool) -> None:
        """Remove a container without processes; the caller holds its lock."""
        self.set_status(container, state=container.status.move(State.REMOVING))
        await self.save(container)
        failpoints.hit("remove.after-mark")
        await self._shim_gone(container)
        try:
            for key in (*image_trees.keys(container.spec), container.id):
                await asyncio.to_thread(remove_snapshot, self._snapshotter, key)
        except (OSError, BoxshipError) as exc:
            error = f'driver "{self._snapshotter.name}" failed to remove root filesystem: {exc}'
            self.set_status(container, state=container.status.move(State.DEAD), error=error)
            await self.save(container)
            raise SystemFailure(f"container {container.id}: {error}") from exc
        failpoints.hit("remove.after-layer")
        for mount in container.spec.mounts:
            if mount.type == "volume":
                await self._volumes.unuse(mount.name, container.id)
                if volumes and mount.anonymous:
                    with contextlib.suppress(BoxshipError):
                        await self._volumes.remove(mount.name, force=True)
        await self._rows.delete(container)
        failpoints.hit("remove.after-row")
        await asyncio.to_thread(self._files.remove, container.id)
        for client in container.attaching:
            os.close(client.fd)
        container.attaching.clear()
        self.index.discard(container)
        self._emit(container, "destroy", {})
        container.wake_removal()

    # -- shared ------------------------------------------------------------------------------------------------------

    async def _shim_gone(self, container: Container) -> None:
        """Wait until the shim of an ended container has cleaned up and closed its connection."""
        if not await _within(container.clean, CLEANUP_DEADLINE):
            raise SystemFailure(f"the remains of container {container.id} were not cleaned up in time")

    async def _settled(self, container: Container) -> None:
        """Wait until the tasks that an exit started are done, so that a new start meets no half-released sandbox."""
        pending = [task for task in self._tasks if task.get_name() == f"exit:{container.id}"]
        if pending:
            await asyncio.wait(pending)

    def set_status(self, container: Container, **changes: Any) -> None:
        """Replace fields of the status; readers see the old or the new one."""
        container.status = msgspec.structs.replace(container.status, **changes)

    async def save(self, container: Container) -> None:
        """Write the status row."""
        await self._rows.save_status(container)

    async def _save_if_possible(self, container: Container) -> None:
        """Write the status row; a disk that fails must not keep a container running that shall end."""
        try:
            await self.save(container)
        except SystemFailure as exc:
            log.warning("container %s: its status could not be written: %s", container.id, exc)

    def remove_later(self, container: Container) -> None:
        """Remove a stopped container in the background."""

        async def remove() -> None:
            async with container.lock:
                if self.index.by_id(container.id) is container:
                    await self._remove_stopped(container, volumes=container.spec.host_config.auto_remove)

        self._spawn(remove())

    def start_later(self, container: Container) -> None:
        """Start a stopped container in the background; a failure is logged and shows in its status."""

        async def start() -> None:
            try:
                await self.start(container, causes.own("daemon-start"))
            except BoxshipError as exc:
                log.warning("container %s does not start again: %s", container.id, exc)

        self._spawn(start())

    async def close(self, *, stop_containers: bool) -> None:
        """Stop following the containers; with ``stop_containers`` stop them first, within the shutdown timeout."""
        self._closing = True
        await self._watcher.close()
        for container in self.index:
            container.cancel_restart()
        if stop_containers:
            await asyncio.gather(*(self._stop_at_shutdown(c) for c in self.index if c.status.alive))
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=KILL_DEADLINE)
        for container in self.index:
            if container.shim is not None:
                container.shim.close()

    async def _stop_at_shutdown(self, container: Container) -> None:
        own = container.spec.config.stop_timeout
        timeout = self._settings.shutdown_timeout if own is None else own
        wanted = container.status.wanted_running
        try:
            await self.stop(container, causes.own("shutdown"), timeout=timeout, signal=None, by_user=False)
        except BoxshipError as exc:
            log.warning("container %s did not stop: %s", container.id, exc)
        self.set_status(container, wanted_running=wanted)
        await self.save(container)

    def _spawn(self, work: Coroutine[Any, Any, None], *, name: str = "") -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # What is an answer to somebody was told to them; the rest is a bug that nobody else would hear of.
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), BoxshipError):
            log.error("a container task failed", exc_info=task.exception())

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` to its end even when the request that asked for it is cancelled, with the lock that it holds."""
        await whole(self._spawn(work))


async def _within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for an event; return False when the time passed first."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _networks_of(container: Container, sandbox: Sandbox | None) -> list[str]:
    if container.spec.host_config.network_mode == "host":
        return ["host"]
    return [endpoint.network_id for endpoint in sandbox.endpoints] if sandbox is not None else []


def _stuck(container: Container) -> SystemFailure:
    return SystemFailure(
        f"cannot kill container: {container.id}: tried to kill container, but did not receive an exit event"
    )
