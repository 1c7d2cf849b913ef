"""The last steps of a process before it becomes the program: the same for a container's init and for exec.

Order, each step for a reason: no_new_privs and the seccomp filter (while CAP_SYS_ADMIN is there; last of all if
no_new_privs makes that unnecessary), the working directory (tried with and without privileges, like a login does), the
bounding set, user and groups, the final capability sets, then look-up of the program as the user it runs as.
"""

import os
import signal
import socket
import sys

from boxship.linux import fs, keyctl, prctl, seccomp, tty
from boxship.linux.mount import AT_FDCWD
from boxship.runtime import channel, credentials, hooks, program, user
from boxship.runtime.failure import RuntimeFailure, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_FIRST_FREE_FD = 3


def take_stdio(stdio: tuple[int, int, int]) -> None:
    """Make the three descriptors 0, 1 and 2."""
    copies = [os.dup(fd) for fd in stdio]  # first all copies: one of the three may be 0, 1 or 2 itself
    for number, fd in enumerate(copies):
        if fd != number:
            os.dup2(fd, number)
        else:
            os.set_inheritable(fd, True)
    for fd in copies:
        if fd >= _FIRST_FREE_FD:
            os.close(fd)


def take_terminal(terminal: int) -> None:
    """Make ``terminal`` the controlling terminal and stdio of this session leader, and close the descriptor."""
    tty.set_controlling(terminal)
    for number in range(3):
        os.dup2(terminal, number)
    os.close(terminal)


def keep_only(fds: list[int], preserved: int = 0) -> None:
    """Close all descriptors but 0 to 2, the ``preserved`` that follow them, and ``fds``."""
    first = _FIRST_FREE_FD + preserved
    for fd in sorted(fds):
        if fd > first:
            fs.close_range(first, fd - 1)
        first = max(first, fd + 1)
    fs.close_range(first)


def join_keyring(container_id: str) -> None:
    """Enter the container's session keyring, so that it cannot see the host's keys; hosts without keyrings do."""
    try:
        serial = keyctl.join_session_keyring(f"_ses.{container_id}")
        keyctl.set_permissions(serial, keyctl.permissions(serial) | keyctl.KEY_USR_SEARCH)
    except OSError:
        pass  # ENOSYS, EPERM, EDQUOT, EACCES: the keys of the session are a convenience


def execute(
    process: "dict[str, Any]",
    end: socket.socket,
    *,
    seccomp_program: bytes | None,
    hold_fd: int = -1,
    preserved: int = 0,
    start_hooks: "list[dict[str, Any]] | None" = None,
    state: "dict[str, Any] | None" = None,
    dies_with_parent: bool = False,
) -> "NoReturn":
    """Drop privileges and become the program of ``process`` (runtime-spec), reporting over ``end``.

    With ``hold_fd`` the program waits for a byte there, and a failure after
    that goes to stderr, as nobody listens any more. Raises RuntimeFailure or OSError before that.
    """
    who = credentials.Credentials(process)
    no_new_privs = bool(process.get("noNewPrivileges"))
    if no_new_privs:
        prctl.set_no_new_privs()
    if seccomp_program and not no_new_privs:
        _filter(seccomp_program)
    keep_only([end.fileno(), hold_fd] if hold_fd >= 0 else [end.fileno()], preserved)
    credentials.own_stdio(who.uid)
    cwd = process.get("cwd") or "/"
    arrived = _change_directory(cwd, final=False)
    try:
        who.drop_bounding()
        who.change_user()
        if not arrived:
            _change_directory(cwd, final=True)
        _check_directory()
        who.set_capabilities()
    except OSError as exc:
        raise RuntimeFailure(f"unable to drop privileges: {exc.strerror}") from exc
    if dies_with_parent:
        # Only now: a change of user clears it. A parent that has died before is noticed when READY is sent.
        prctl.set_parent_death_signal(signal.SIGKILL)
    env = _environment(process, who.uid)
    path = program.find(process["args"][0], env.get("PATH", ""))
    for number in range(preserved):
        os.set_inheritable(_FIRST_FREE_FD + number, True)
    channel.send(end, channel.READY)
    late_filter = seccomp_program if no_new_privs else None
    if hold_fd < 0:
        hooks.run(start_hooks or [], state or {})
        _become(path, process["args"], env, late_filter)
    end.close()
    try:
        if not os.read(hold_fd, 1):
            os._exit(1)  # nobody is left who could start it
        os.close(hold_fd)
        hooks.run(start_hooks or [], state or {})
        _become(path, process["args"], env, late_filter)
    except RuntimeFailure as exc:
        sys.stderr.write(exc.message + "\n")
        sys.stderr.flush()
        os._exit(exc.code)


def _become(path: str, args: list[str], env: dict[str, str], late_filter: bytes | None) -> "NoReturn":
    if late_filter:
        _filter(late_filter)
    try:
        os.execve(path, args, env)
    except OSError as exc:
        raise program.failed(path, exc) from exc


def _filter(code: bytes) -> None:
    try:
        seccomp.install(code)
    except OSError as exc:
        raise RuntimeFailure(
            f"unable to init seccomp: error loading seccomp filter into kernel: {exc.strerror}"
        ) from exc


def _change_directory(path: str, *, final: bool) -> bool:
    """Go to ``path``; without ``final`` a lack of permission is no error yet. Tell whether it worked.

    A magic link (/proc/self/fd/N) is no way in: it could lead out of the container's root.
    """
    try:
        fd = fs.openat2(AT_FDCWD, path, fs.O_PATH | os.O_DIRECTORY, resolve=fs.RESOLVE_NO_MAGICLINKS)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        if isinstance(exc, PermissionError) and not final:
            return False
        raise RuntimeFailure(f'chdir to cwd ("{path}") set in config.json failed: {reason(exc)}') from exc
    return True


def _check_directory() -> None:
    """Raise RuntimeFailure unless the working directory is inside the root: getcwd(2) marks others."""
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        raise RuntimeFailure(
            "current working directory is outside of container mount namespace root -- possible container breakout "
            "detected"
        )


def _environment(process: "dict[str, Any]", uid: int) -> dict[str, str]:
    env = {}
    for entry in process.get("env") or []:
        name, separator, value = entry.partition("=")
        if name and separator:
            env[name] = value
    if not env.get("HOME"):
        root_fd = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        env["HOME"] = user.home_of(root_fd, uid)
        os.close(root_fd)
    return env
