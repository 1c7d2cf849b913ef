"""``exec``: run one more command in a running container."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only signal

from boxship.cli.attached import Attachment, detach_keys
from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag
from boxship.cli.options.checks import check_env
from boxship.cli.options.environment import read_environment
from boxship.cli.signals import WINCH, SignalEvents
from boxship.cli.stdio import check_tty, resizer, window_size
from boxship.client.engine import quote
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("detach", "bool", "Detached mode: run command in the background", short="d"),
    Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
    Flag("env", "list", "Set environment variables", short="e", check=check_env),
    Flag("env-file", "list", "Read in a file of environment variables"),
    Flag("interactive", "bool", "Keep STDIN open even if not attached", short="i"),
    Flag("privileged", "bool", "Give extended privileges to the command"),
    Flag("tty", "bool", "Allocate a pseudo-TTY", short="t"),
    Flag("user", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
    Flag("workdir", "string", "Working directory inside the container", short="w"),
)


def run(session: Session, values: Values) -> int:
    """Run the command in the container and return its exit code."""
    container, *command = values.arguments
    try:
        environment = read_environment(values.many("env-file"), values.many("env"))
    except ValueError as exc:
        raise ExitError(str(exc)) from exc
    detach, tty = values.is_set("detach"), values.is_set("tty")
    stdin = values.is_set("interactive") and not detach
    keys = detach_keys(session, values.text("detach-keys"))
    document: dict[str, Any] = {
        "User": values.text("user"),
        "Privileged": values.is_set("privileged"),
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStderr": not detach,
        "AttachStdout": not detach,
        "DetachKeys": values.text("detach-keys") or session.config.text("detachKeys"),
        "Env": environment or None,
        "WorkingDir": values.text("workdir"),
        "Cmd": command,
        "Detach": detach,
    }
    if tty and not detach:
        document["ConsoleSize"] = list(window_size())
    # Asked before the terminal is touched, and before an exec is made that could not start.
    session.engine.json("GET", f"/containers/{quote(container)}/json")
    if not detach:
        check_tty(stdin=stdin, tty=tty)
    exec_id = session.engine.json("POST", f"/containers/{quote(container)}/exec", None, document).get("Id")
    if not exec_id:
        raise ExitError("exec ID empty")
    if detach:
        session.engine.json("POST", f"/exec/{exec_id}/start", None, {"Detach": True, "Tty": tty})
        return 0
    return run_attached(session, exec_id, document, keys)


def run_attached(session: Session, exec_id: str, document: dict[str, Any], keys: bytes) -> int:
    """Start an exec that was made from ``document`` with this process's stdio; return its exit code."""
    tty = document["Tty"]
    start: dict[str, Any] = {"Detach": False, "Tty": tty}
    if "ConsoleSize" in document:
        start["ConsoleSize"] = document["ConsoleSize"]
    connection = session.engine.hijack(f"/exec/{exec_id}/start", None, start)
    attachment = Attachment(connection, tty=tty, stdin=document["AttachStdin"], keys=keys)

    def resize(height: int, width: int) -> None:
        try:
            session.engine.json("POST", f"/exec/{exec_id}/resize", {"h": height, "w": width})
        except ClientError:
            pass  # it ended meanwhile

    resized = resizer(resize)

    def on_signal(number: int) -> None:
        if number != WINCH:
            raise ExitError(status=128 + number)  # through the block that restores the terminal
        resized(number)

    signals = SignalEvents()
    try:
        if tty:
            signals.catch((WINCH, _signal.SIGTERM, _signal.SIGHUP))
            on_signal(WINCH)
        if attachment.run(signals, on_signal):
            raise ExitError("read escape sequence")
    finally:
        signals.close()
    return int(session.engine.json("GET", f"/exec/{exec_id}/json")["ExitCode"])


COMMANDS = {
    "container exec": Command(
        "[OPTIONS] CONTAINER COMMAND [ARG...]", run, FLAGS, least=2, most=None, interspersed=False
    )
}
