"""exec: one more process in a running container."""

import json
import os

from boxship.base import atomicfile
from boxship.runtime import launch
from boxship.runtime.commands import lifecycle, state, terminal
from boxship.runtime.commands.options import FLAG, LIST, VALUE, Options, UsageError
from boxship.runtime.failure import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = {
    "console-socket": VALUE,
    "cwd": VALUE,
    "env e": LIST,
    "tty t": FLAG,
    "user u": VALUE,
    "additional-gids g": LIST,
    "process p": VALUE,
    "detach d": FLAG,
    "pid-file": VALUE,
    "process-label": VALUE,
    "apparmor": VALUE,
    "no-new-privs": FLAG,
    "cap c": LIST,
    "preserve-fds": VALUE,
    "ignore-paused": FLAG,
    "cgroup": VALUE,
}
_CAPABILITY_SETS = ("bounding", "effective", "permitted")


def run(root: str, options: Options) -> int:
    """Start the process; unless detached, serve it until it ends and return its exit status."""
    if not options.args:
        raise UsageError("exec needs a container ID")
    container = state.load(root, options.args[0])
    status = container.status()
    if status == "stopped":
        raise RuntimeFailure("cannot exec a container that has stopped")
    if status == "paused" and not options.flag("ignore-paused"):
        raise RuntimeFailure("cannot exec in a paused container (use --ignore-paused to override)")
    config = container.config()
    process = _process(config, options)
    has_terminal = bool(process.get("terminal"))
    console_socket = options.value("console-socket")
    detached = options.flag("detach")
    if detached and has_terminal and not console_socket:
        raise RuntimeFailure("cannot allocate tty if boxship-runtime will detach without setting console socket")
    init_pidfd = container.open_init()
    if init_pidfd < 0:
        raise RuntimeFailure("cannot exec a container that has stopped")
    started = launch.start_exec(
        process,
        init_pidfd=init_pidfd,
        init_pid=container.pid,
        cgroup=container.cgroup(),
        stdio=None if has_terminal else (0, 1, 2),
        seccomp_program=lifecycle.compile_filter(config),
        container_id=container.id,
        preserve_fds=lifecycle.preserved_fds(options),
    )
    if started.console >= 0 and console_socket:
        terminal.send_master(console_socket, started.console)
        os.close(started.console)
        started.console = -1
    if options.value("pid-file"):
        atomicfile.write(options.value("pid-file"), str(started.pid).encode(), mode=0o644, durable=False)
    return 0 if detached else lifecycle.wait_for(started)


def _process(config: "dict[str, Any]", options: Options) -> "dict[str, Any]":
    """Return the ``process`` document: the given file, or the container's own with what the options change."""
    if options.value("process"):
        with open(options.value("process"), encoding="utf-8") as file:
            document: dict[str, Any] = json.load(file)
        return document
    if len(options.args) < 2:
        raise UsageError("process args cannot be empty")
    process = dict(config["process"], args=options.args[1:], terminal=options.flag("tty"))
    process["env"] = [*(process.get("env") or []), *options.values("env")]
    if options.value("cwd"):
        process["cwd"] = options.value("cwd")
    if options.value("apparmor"):
        process["apparmorProfile"] = options.value("apparmor")
    if options.value("process-label"):
        process["selinuxLabel"] = options.value("process-label")
    if options.flag("no-new-privs"):
        process["noNewPrivileges"] = True
    if options.value("user"):
        process["user"] = _user(options.value("user"))
    gids = [_id(gid) for gid in options.values("additional-gids")]
    if gids:
        user = process.get("user") or {}
        process["user"] = dict(user, additionalGids=[*(user.get("additionalGids") or []), *gids])
    if options.values("cap"):
        sets = process.get("capabilities") or {}
        more = {name: [*(sets.get(name) or []), *options.values("cap")] for name in _CAPABILITY_SETS}
        process["capabilities"] = dict(sets, **more)
    return process


def _user(text: str) -> dict[str, int]:
    uid, colon, gid = text.partition(":")
    return {"uid": _id(uid), "gid": _id(gid) if colon else 0}


def _id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 0xFFFFFFFE:
        raise UsageError(f'invalid uid or gid "{text}"')
    return int(text)
