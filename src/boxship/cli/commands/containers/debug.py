"""``debug``: a shell with tools beside a container, or on what a stopped container or an image holds."""

from __future__ import annotations

import os

from boxship.cli.attached import detach_keys
from boxship.cli.command import STDIN, STDOUT, Command, ExitError
from boxship.cli.commands.containers.exec import run_attached
from boxship.cli.flags import Flag
from boxship.cli.options.checks import check_env
from boxship.cli.options.environment import read_environment
from boxship.cli.stdio import window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("command", "string", "Run one command line in the shell, without a terminal", short="c"),
    Flag("detach-keys", "string", "Override the key sequence that ends the shell"),
    Flag("env", "list", "Set environment variables", short="e", check=check_env),
    Flag("image", "string", "Image to take the tools from, beside a running container"),
    Flag("user", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
    Flag("workdir", "string", "Working directory inside the container", short="w"),
)


def run(session: Session, values: Values) -> int:
    """Run a shell or a command and return its exit code."""
    target, *command = values.arguments
    line = values.text("command")
    if line and command:
        raise ExitError("a command is given twice: with --command and as arguments")
    tty = not line and os.isatty(STDIN) and os.isatty(STDOUT)
    keys = detach_keys(session, values.text("detach-keys"))
    try:
        environment = read_environment((), values.many("env"))
    except ValueError as exc:
        raise ExitError(str(exc)) from exc
    if tty:
        environment.insert(0, f"PS1=debug {target} \\w \\$ ")
    document: dict[str, Any] = {
        "Target": target,
        "Image": values.text("image"),
        "User": values.text("user"),
        "Tty": tty,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "DetachKeys": values.text("detach-keys") or session.config.text("detachKeys"),
        "Env": environment or None,
        "WorkingDir": values.text("workdir"),
        "Cmd": ["sh", "-c", line] if line else command or None,
    }
    if tty:
        document["ConsoleSize"] = list(window_size())
    created = session.engine.json("POST", "/boxship/debug", None, document)
    return run_attached(session, created["Id"], document, keys)


COMMANDS = {
    "debug": Command("[OPTIONS] CONTAINER|IMAGE [COMMAND] [ARG...]", run, FLAGS, least=1, most=None, interspersed=False)
}
