"""Exec: further processes in a running container."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from boxship.base.errors import BoxshipError, Conflict, InvalidInput, NotFound
from boxship.base.ids import new_id
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.model import NotRunning, State, unknown_user
from boxship.engine.options import oci
from boxship.engine.processes.attach import Stream, parse_detach_keys, write_all
from boxship.engine.processes.shims import Client, ShimGone
from boxship.spec.docker.container import ExecConfig, ExecInspect, ExecProcess, ExecStart
from boxship.wire import frames

NOT_STARTED = 126  # the exit code of an exec whose container ended in this moment
START_PATIENCE = 10  # seconds; Docker's
MAX_KEPT = 64  # ended execs per container that inspect still answers for


class Emit(Protocol):
    """Publishes an event of a container; the engine's own processes are not ``kept`` in the history."""

    def __call__(
        self, container: Container, action: str, attributes: dict[str, str], /, *, kept: bool = True
    ) -> None: ...


class NoSuchExec(NotFound):
    """No exec has that id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"No such exec instance: {id}")


class ExecFailed(InvalidInput):
    """The program of an exec could not be started."""

    def __init__(self, message: str, exit_code: int) -> None:
        # Docker looks up users itself, before any runtime: without the runtime's words, and 126.
        if unknown_user(message):
            exit_code = 126
        else:
            message = f"OCI runtime exec failed: exec failed: {message}: unknown"
        super().__init__(message)
        self.exit_code = exit_code


class Debugging(NamedTuple):
    """What an exec of a debugging shell has beyond others; it ends with its client."""

    process: Callable[[dict[str, Any]], dict[str, Any]]  # the OCI process from what an ordinary exec would have
    prepare: Callable[[], Awaitable[None]] | None = None  # starts its container, which then ends with it


class Exec:
    """One exec: configuration, and what became of it."""

    def __init__(
        self,
        id: str,
        container: Container,
        config: ExecConfig,
        *,
        transient: bool = False,
        debugging: Debugging | None = None,
    ) -> None:
        self.id = id
        self.container = container
        self.config = config
        self.words = [config.cmd] if isinstance(config.cmd, str) else list(config.cmd or [])
        self.started = False
        self.running = False
        self.pid = 0
        self.exit_code: int | None = None
        self.begun = asyncio.Event()  # it runs, or it could not be started
        self.ended = asyncio.Event()
        self.transient = transient  # the engine's own: forgotten when it ends, nobody will ask for it
        self.debugging = debugging

    @property
    def command(self) -> str:
        """What its events show: program, a space, arguments, if any."""
        return f"{self.words[0]} {' '.join(self.words[1:])}"

    @property
    def multiplexed(self) -> bool:
        """Whether output is framed."""
        return not self.config.tty


class ExecService:
    """Implements ``api.backend.Execs``; execs live as long as their container and are not stored."""

    def __init__(self, index: ContainerIndex, emit: Emit, process: Callable[[Container], dict[str, Any]]) -> None:
        self._index = index
        self._emit = emit
        self._process = process  # the OCI process document of a container
        self._execs: dict[str, Exec] = {}

    async def create(self, container: str, config: ExecConfig) -> str:
        """Check and remember an exec; nothing starts."""
        found = self._index.find(container)
        _check_running(found, container)
        return self._create(Exec(new_id(), found, config)).id

    def debug(self, container: Container, config: ExecConfig, debugging: Debugging) -> Exec:
        """Check and remember an exec for a debugging shell."""
        if debugging.prepare is None:
            _check_running(container, container.id)
        return self._create(Exec(new_id(), container, config, debugging=debugging))

    def _create(self, execution: Exec) -> Exec:
        if not execution.words:
            raise InvalidInput("No exec command specified")
        parse_detach_keys(execution.config.detach_keys or None)
        self._execs[execution.id] = execution
        execution.container.exec_ids.append(execution.id)
        self._tell(execution, f"exec_create: {execution.command}", {})
        return execution

    async def inspect(self, id: str) -> ExecInspect:
        """Describe an exec."""
        execution = self._find(id)
        config = execution.config
        return ExecInspect(
            id=execution.id,
            running=execution.running,
            exit_code=execution.exit_code,
            process_config=ExecProcess(
                tty=config.tty,
                entrypoint=execution.words[0] if execution.words else "",
                arguments=execution.words[1:],
                privileged=config.privileged,
                user=config.user or msgspec.UNSET,
            ),
            open_stdin=config.attach_stdin,
            open_stderr=config.attach_stderr,
            open_stdout=config.attach_stdout,
            can_remove=execution.exit_code is not None,
            container_id=execution.container.id,
            detach_keys=config.detach_keys,
            pid=execution.pid,
        )

    async def start(self, id: str, options: ExecStart) -> ExecSession | None:
        """Start a detached exec now, or return the session that starts when its connection comes."""
        execution = self._find(id)
        if execution.exit_code is not None:
            raise Conflict(f"exec command {id} has already run")
        if execution.started:
            raise Conflict(f"Error: Exec command {id} is already running")
        if execution.debugging is None or execution.debugging.prepare is None:
            _check_running(execution.container, execution.container.id)
        execution.started = True
        session = ExecSession(self, execution, options.console_size or execution.config.console_size)
        if options.detach:
            await session.run(None)
            return None
        return session

    async def resize(self, id: str, height: int, width: int) -> None:
        """Set the size of the exec's terminal; one that is about to start is waited for, since clients ask at once."""
        execution = self._find(id)
        if execution.started:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_PATIENCE):
                    await execution.begun.wait()
        shim = execution.container.shim
        if not execution.running or shim is None:
            raise Conflict(f"exec process {id} is not running")
        await shim.ask("resize", {"exec_id": id, "height": height, "width": width})

    def adopt(self, container: Container, id: str, pid: int) -> None:
        """Remember an exec that a former daemon started and that still runs."""
        execution = Exec(id, container, ExecConfig(cmd=[]))
        execution.started = execution.running = True
        execution.begun.set()
        execution.pid = pid
        self._execs[id] = execution
        container.exec_ids.append(id)

    def exited(self, container: Container, event: dict[str, Any]) -> None:
        """Record the end of an exec, as its shim reported it."""
        execution = self._execs.get(str(event["exec_id"]))
        if execution is not None and execution.container is container:
            self._ended(execution, int(event["code"]))
            execution.ended.set()
            self._tell(execution, "exec_die", {"exitCode": str(execution.exit_code)})
            if execution.transient:
                self._discard(execution)

    def forget(self, container: Container) -> None:
        """Drop the execs of a removed container."""
        for id in (*container.exec_ids, *container.ended_exec_ids):
            self._execs.pop(id, None)
        container.exec_ids.clear()
        container.ended_exec_ids.clear()

    async def run(self, container: Container, words: list[str], client: Client) -> Exec:
        """Start a process for the engine itself, with ``client`` reading its output; it is forgotten when it ends.

        The descriptor of ``client`` is closed here in any case. Raises ExecFailed, NotRunning, Conflict.
        """
        try:
            config = ExecConfig(cmd=words, attach_stdout=client.stdout, attach_stderr=client.stderr)
            _check_running(container, container.id)
            execution = self._create(Exec(new_id(), container, config, transient=True))
            execution.started = True
            try:
                await self._begin(execution, client, None)
            except BaseException:
                self._discard(execution)
                raise
        finally:
            os.close(client.fd)
        return execution

    async def kill(self, execution: Exec, signal: int) -> None:
        """Send a signal to an exec's process, if it still runs."""
        shim = execution.container.shim
        if execution.running and shim is not None:
            await shim.ask("kill", {"exec_id": execution.id, "signal": signal})

    async def launch(self, execution: Exec, client: Client | None, console_size: list[int] | None) -> None:
        """Start the process, and tell a failure to whoever waits; the descriptor of ``client`` is closed here in any case."""
        try:
            await self._begin(execution, client, console_size)
        except BoxshipError as exc:
            if client is None:
                raise
            # The head of the answer is long gone: Docker, too, tells the person on the stream.
            text = f"{exc}\r\n".encode()
            with contextlib.suppress(OSError):
                await asyncio.to_thread(write_all, client.fd, text if execution.config.tty else frames.encode(1, text))
        finally:
            if client is not None:
                os.close(client.fd)

    async def _begin(self, execution: Exec, client: Client | None, console_size: list[int] | None) -> None:
        """Ask the shim to start the process. Raises ExecFailed, NotRunning."""
        try:
            answer = await self._request(execution, client, console_size)
            if not answer.get("ok"):
                failed = ExecFailed(str(answer.get("error")), int(answer.get("code", 126)))
                self._ended(execution, failed.exit_code)
                raise failed
        except BoxshipError:
            if execution.exit_code is None:
                self._ended(execution, NOT_STARTED)
            raise
        finally:
            execution.begun.set()
        execution.pid = int(answer["pid"])
        execution.running = execution.exit_code is None

    async def _request(self, execution: Exec, client: Client | None, console_size: list[int] | None) -> dict[str, Any]:
        """Return the shim's answer to the request to start the process. Raises NotRunning."""
        container, config, debugging = execution.container, execution.config, execution.debugging
        if debugging is not None and debugging.prepare is not None:
            await debugging.prepare()
        process = oci.exec_process(
            self._process(container),
            args=execution.words,
            env=config.env or [],
            cwd=config.working_dir,
            tty=config.tty,
            privileged=config.privileged,
        )
        fields: dict[str, Any] = {
            "exec_id": execution.id,
            "process": process,
            "user": {
                "name": config.user or container.spec.config.user,
                "groups": container.spec.host_config.group_add or [],
            },
            "privileged": config.privileged,
            "tty": config.tty,
            "console_size": console_size,
        }
        if debugging is not None:
            fields["process"] = debugging.process(process)
            fields["ends_with_client"] = client is not None
            fields["ends_container"] = debugging.prepare is not None
        if client is not None:
            fields |= client.request()
        # As Docker does, before anybody knows whether the program exists; its end may be told before the answer comes.
        self._tell(execution, f"exec_start: {execution.command}", {})
        return await self._ask(container, fields, client)

    def _tell(self, execution: Exec, action: str, attributes: dict[str, str]) -> None:
        self._emit(execution.container, action, {"execID": execution.id, **attributes}, kept=not execution.transient)

    async def _ask(self, container: Container, fields: dict[str, Any], client: Client | None) -> dict[str, Any]:
        if container.shim is None:
            raise NotRunning(container.id)
        try:
            return await container.shim.ask("exec", fields, [client.fd] if client else [])
        except ShimGone as exc:
            raise NotRunning(container.id) from exc

    def _find(self, id: str) -> Exec:
        execution = self._execs.get(id)
        if execution is None:
            raise NoSuchExec(id)
        return execution

    def _discard(self, execution: Exec) -> None:
        if self._execs.pop(execution.id, None) is not None:
            container = execution.container
            (container.exec_ids if execution.exit_code is None else container.ended_exec_ids).remove(execution.id)

    def _ended(self, execution: Exec, code: int) -> None:
        """Note the end, which stays known for a while, or that nothing could be started."""
        container = execution.container
        if execution.exit_code is None and execution.id in self._execs:
            container.exec_ids.remove(execution.id)
            container.ended_exec_ids.append(execution.id)
            while len(container.ended_exec_ids) > MAX_KEPT:
                self._execs.pop(container.ended_exec_ids.pop(0), None)
        execution.running = False
        execution.exit_code = code


class ExecSession:
    """An exec that starts when its client's connection arrives."""

    def __init__(self, service: ExecService, execution: Exec, console_size: list[int] | None) -> None:
        self._service = service
        self._exec = execution
        self._console_size = console_size

    @property
    def multiplexed(self) -> bool:
        """Whether output is framed."""
        return self._exec.multiplexed

    async def serve(self, stream: Stream) -> None:
        """Start the process on this connection."""
        config = self._exec.config
        leftover, fd = stream.leftover, stream.detach()
        keys = parse_detach_keys(config.detach_keys or None)
        client = Client(fd, config.attach_stdin, config.attach_stdout, config.attach_stderr, keys, leftover)
        await self.run(client)

    async def run(self, client: Client | None) -> None:
        """Start the process with these streams, or with none; raises ExecFailed."""
        await self._service.launch(self._exec, client, self._console_size)

    async def abandon(self) -> None:
        """Allow another try: the client left before anything ran."""
        self._exec.started = False


def _check_running(container: Container, ref: str) -> None:
    if container.status.state is State.PAUSED:
        raise Conflict(f"Container {ref} is paused, unpause the container before exec")
    if container.status.state is State.RESTARTING:
        raise Conflict(f"Container {ref} is restarting, wait until the container is running")
    if not container.status.alive:
        raise NotRunning(container.id)
