"""create, start, run, kill, delete: the life of a container."""

import errno
import json
import os
import signal
import sys

from boxship.base import atomicfile
from boxship.linux import cgroup, pidfd, prctl
from boxship.runtime import devices, hooks, launch
from boxship.runtime.commands import state, terminal
from boxship.runtime.commands.options import FLAG, VALUE, Options, UsageError
from boxship.runtime.failure import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATE_OPTIONS = {
    "bundle b": VALUE,
    "console-socket": VALUE,
    "pid-file": VALUE,
    "preserve-fds": VALUE,
    "no-pivot": FLAG,
    "no-new-keyring": FLAG,
}
RUN_OPTIONS = CREATE_OPTIONS | {"detach d": FLAG, "keep": FLAG, "no-subreaper": FLAG}
KILL_OPTIONS = {"all a": FLAG}
DELETE_OPTIONS = {"force f": FLAG}
START_OPTIONS: dict[str, int] = {}

_KILL_WAIT = 10.0  # seconds for a killed init to end


def create(root: str, options: Options) -> int:
    """Set a container up so that only its program is not running yet."""
    container, process = _create(root, options, detached=True)
    _hand_over(container, process, options)
    return 0


def start(root: str, options: Options) -> int:
    """Let the program of a created container run."""
    container = state.load(root, _only_id(options))
    with state.Lock(container):
        _start(container)
    return 0


def run(root: str, options: Options) -> int:
    """Create and start; unless detached, wait for the end, delete, and return the program's exit status."""
    detached = options.flag("detach")
    if not options.flag("no-subreaper"):
        prctl.set_child_subreaper(True)
    container, process = _create(root, options, detached=detached)
    try:
        if options.value("console-socket") or detached:
            _hand_over(container, process, options)
        else:
            _write_pid_file(container.pid, options)
        with state.Lock(container):
            _start(container)
    except BaseException:
        _delete(container, force=True)
        raise
    if detached:
        return 0
    code = wait_for(process)
    if not options.flag("keep"):
        _delete(container, force=True)
    return code


def kill(root: str, options: Options) -> int:
    """Send a signal (default SIGTERM) to a container's init, or with --all to all its processes."""
    if not 1 <= len(options.args) <= 2:
        raise UsageError("kill needs a container ID and optionally a signal")
    container = state.load(root, options.args[0])
    signum = parse_signal(options.args[1] if len(options.args) == 2 else "SIGTERM")
    if options.flag("all"):
        container.cgroup().kill(signum)
        return 0
    fd = container.open_init()
    if fd < 0:
        raise RuntimeFailure("container not running")
    try:
        pidfd.send_signal(fd, signum)
    finally:
        os.close(fd)
    return 0


def delete(root: str, options: Options) -> int:
    """Remove what a stopped container (with --force: any) holds: cgroup and state."""
    id = _only_id(options)
    force = options.flag("force")
    try:
        container = state.load(root, id)
    except RuntimeFailure:
        if force:
            return 0
        raise
    _delete(container, force=force)
    return 0


def wait_for(process: launch.InitProcess) -> int:
    """Serve a process in the foreground until it ends: terminal, signals; return its exit status as a shell does."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGWINCH}:
        try:
            signal.signal(signum, lambda number, _: _forward_signal(process.pidfd, number))
        except OSError:
            continue  # kept by the C library for itself
    if process.console >= 0:
        terminal.pump(process.console, process.pidfd)
    _, status = os.waitpid(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def parse_signal(text: str) -> int:
    """Return the number of a signal given as number or name, with or without SIG. Raises UsageError."""
    if text.isascii() and text.isdigit() and 0 <= int(text) < signal.NSIG:
        return int(text)
    name = text.upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise UsageError(f'unknown signal "{text}"') from None


def read_config(bundle: str) -> "dict[str, Any]":
    """Return the configuration of ``bundle``. Raises RuntimeFailure when it is missing or unfit."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except FileNotFoundError as exc:
        raise RuntimeFailure("JSON specification file config.json not found") from exc
    except ValueError as exc:
        raise RuntimeFailure(f"{path}: {exc}") from exc
    if not isinstance(config, dict) or not isinstance(config.get("process"), dict):
        raise RuntimeFailure("process property must not be empty")
    if not config["process"].get("args"):
        raise RuntimeFailure("args must not be empty")
    if not str(config["process"].get("cwd", "")).startswith("/"):
        raise RuntimeFailure("Cwd must be an absolute path")
    return config


def compile_filter(config: "dict[str, Any]") -> bytes | None:
    """Return the seccomp program of ``linux.seccomp``, None without one. Raises RuntimeFailure."""
    document = (config.get("linux") or {}).get("seccomp")
    if not document:
        return None
    from boxship.runtime import seccomp  # loads libseccomp

    try:
        return seccomp.compile(document)
    except seccomp.SeccompError as exc:
        raise RuntimeFailure(f"unable to init seccomp: {exc}") from exc


def preserved_fds(options: Options) -> int:
    """Return how many descriptors from 3 up the program inherits: asked for, or by socket activation."""
    count = int(options.value("preserve-fds", "0"))
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        count += int(os.environ.get("LISTEN_FDS", "0"))
    return count


def _create(root: str, options: Options, *, detached: bool) -> tuple[state.Container, launch.InitProcess]:
    id = _only_id(options)
    bundle = os.path.realpath(options.value("bundle") or ".")
    config = read_config(bundle)
    has_terminal = bool(config["process"].get("terminal"))
    if detached and has_terminal and not options.value("console-socket"):
        raise RuntimeFailure("cannot allocate tty if boxship-runtime will detach without setting console socket")
    if options.value("console-socket") and not has_terminal:
        raise RuntimeFailure("cannot use console socket if boxship-runtime will not detach or allocate tty")
    rootfs = state.rootfs_of(bundle, config)
    linux = config.get("linux") or {}
    code = compile_filter(config)
    container = state.reserve(root, id, bundle, config, _cgroup_path(linux.get("cgroupsPath") or f"/{id}"))
    try:
        group = container.cgroup()
        group.create()
        group.apply(_resources(linux))
        fifo = os.path.join(container.directory, state.FIFO)
        os.mkfifo(fifo, 0o600)
        # Both ends: with only a reading one, a read would answer "end of file" before anyone opened the other.
        hold_fd = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        try:
            process = launch.start_init(
                config,
                container_id=id,
                rootfs=rootfs,
                stdio=None if has_terminal else (0, 1, 2),
                cgroup=group,
                seccomp_program=code,
                hold_fd=hold_fd,
                preserve_fds=preserved_fds(options),
                bundle=bundle,
                pivot=not options.flag("no-pivot"),
            )
        finally:
            os.close(hold_fd)
        container.pid = process.pid
        container.start_time = pidfd.start_time(process.pid)
        container.save()
    except cgroup.CgroupError as exc:
        _delete(container, force=True)
        raise RuntimeFailure(f"unable to apply cgroup configuration: {exc}") from exc
    except BaseException:
        _delete(container, force=True)
        raise
    return container, process


def _hand_over(container: state.Container, process: launch.InitProcess, options: Options) -> None:
    """Give terminal and pid to who asked for them; the container goes if that fails."""
    try:
        if process.console >= 0:
            terminal.send_master(options.value("console-socket"), process.console)
            os.close(process.console)
            process.console = -1
        _write_pid_file(process.pid, options)
    except BaseException:
        _delete(container, force=True)
        raise


def _write_pid_file(pid: int, options: Options) -> None:
    path = options.value("pid-file")
    if path:
        atomicfile.write(path, str(pid).encode(), mode=0o644, durable=False)


def _start(container: state.Container) -> None:
    status = container.status()
    if status == "stopped":
        raise RuntimeFailure("cannot start a container that has stopped")
    if status != "created":
        raise RuntimeFailure("cannot start an already running container")
    fifo = os.path.join(container.directory, state.FIFO)
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            raise
        raise RuntimeFailure("cannot start a container that has stopped") from exc
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)
    os.unlink(fifo)
    poststart = (container.config().get("hooks") or {}).get("poststart") or []
    hooks.run(poststart, container.document())


def _delete(container: state.Container, *, force: bool) -> None:
    if not os.path.isdir(container.directory):
        return
    with state.Lock(container):
        status = container.status()
        if status not in ("stopped", "creating") and not force:
            raise RuntimeFailure(f"cannot delete container {container.id} that is not stopped: {status}")
        _end(container)
        try:
            container.cgroup().remove()
        except (OSError, ValueError) as exc:
            sys.stderr.write(f"cgroup {container.cgroup_path} is not removed: {exc}\n")
        document = dict(container.document(), status="stopped", pid=0)
        poststop = (container.config().get("hooks") or {}).get("poststop") or []
        container.forget()
    for hook in poststop:
        try:
            hooks.run([hook], document)
        except RuntimeFailure as exc:
            sys.stderr.write(f"{exc.message}\n")  # the rest must run all the same


def _end(container: state.Container) -> None:
    """Kill what is left of the container, also where it has no pid namespace to end with its init."""
    fd = container.open_init()
    try:
        if fd >= 0:
            pidfd.send_signal(fd, signal.SIGKILL)
        try:
            container.cgroup().kill(signal.SIGKILL)
            container.cgroup().thaw()
        except (OSError, ValueError):
            pass  # gone, or without freezer
        if fd >= 0 and not pidfd.wait(fd, _KILL_WAIT):
            raise RuntimeFailure(f"container {container.id} did not end when it was killed")
    finally:
        if fd >= 0:
            os.close(fd)


def _forward_signal(process: int, number: int) -> None:
    try:
        pidfd.send_signal(process, number)
    except ProcessLookupError:
        pass


def _resources(linux: "dict[str, Any]") -> "dict[str, Any]":
    """Return the configuration's limits, its device rules followed by those that every container has."""
    resources: dict[str, Any] = linux.get("resources") or {}
    rules = resources.get("devices")
    return dict(resources, devices=[*rules, *devices.DEFAULT_RULES]) if rules else resources


def _cgroup_path(path: str) -> str:
    """Return where a container's cgroup is; systemd's form ``slice:prefix:name`` becomes a path of its own."""
    parts = path.split(":")
    if len(parts) != 3:
        return path
    return f"/{parts[0] or 'system.slice'}/{parts[1]}-{parts[2]}.scope"


def _only_id(options: Options) -> str:
    if len(options.args) != 1:
        raise UsageError("exactly one argument is needed: the container ID")
    return options.args[0]
