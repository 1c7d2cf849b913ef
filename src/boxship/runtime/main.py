"""``boxship-runtime``: the runtime as a program that podman, containerd and people call on a bundle."""

import importlib
import json
import os
import sys

from boxship import __version__
from boxship.base import clock
from boxship.runtime import selfexe
from boxship.runtime.commands.options import FLAG, VALUE, Options, UsageError, parse
from boxship.runtime.commands.state import OCI_VERSION
from boxship.runtime.failure import RuntimeFailure

_PROGRAM = "boxship-runtime"
_DEFAULT_ROOT = "/run/boxship-runtime"
_GLOBAL_OPTIONS = {
    "root": VALUE,
    "log": VALUE,
    "log-format": VALUE,
    "debug": FLAG,
    "systemd-cgroup": FLAG,
    "rootless": VALUE,
    "criu": VALUE,
    "version v": FLAG,
    "help h": FLAG,
}
_FAILED = 1
_EXEC_FAILED = 255  # not to be taken for an exit status of the program


class _Command:
    """Where a command lives; its module is imported when it is called."""

    __slots__ = ("function", "module", "options", "starts_process", "summary")

    def __init__(self, module: str, function: str, options: str, summary: str, *, starts_process: bool = False) -> None:
        self.module = module
        self.function = function
        self.options = options
        self.summary = summary
        self.starts_process = starts_process


_COMMANDS: dict[str, _Command] = {
    "create": _Command("lifecycle", "create", "CREATE_OPTIONS", "create a container", starts_process=True),
    "delete": _Command("lifecycle", "delete", "DELETE_OPTIONS", "delete what a container holds"),
    "events": _Command("query", "events", "EVENTS_OPTIONS", "show a container's figures (with --stats)"),
    "exec": _Command("execute", "run", "OPTIONS", "run a further process in a container", starts_process=True),
    "features": _Command("describe", "show_features", "", "show what this runtime supports"),
    "kill": _Command("lifecycle", "kill", "KILL_OPTIONS", "send a signal to a container's init"),
    "list": _Command("query", "show_list", "LIST_OPTIONS", "list containers"),
    "pause": _Command("query", "pause", "NO_OPTIONS", "suspend all processes of a container"),
    "ps": _Command("query", "ps", "PS_OPTIONS", "show the processes of a container"),
    "resume": _Command("query", "resume", "NO_OPTIONS", "resume a paused container"),
    "run": _Command("lifecycle", "run", "RUN_OPTIONS", "create and start a container", starts_process=True),
    "spec": _Command("describe", "write_spec", "SPEC_OPTIONS", "write a default configuration"),
    "start": _Command("lifecycle", "start", "START_OPTIONS", "start the program of a created container"),
    "state": _Command("query", "show_state", "NO_OPTIONS", "show the state of a container"),
    "update": _Command("query", "update", "UPDATE_OPTIONS", "change the limits of a container"),
}
# What follows the container ID of these is a command line of its own.
_STOP_AT_ARGUMENT = ("exec", "ps")


def main() -> None:
    """Run the command line of this process and exit with its status."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run the command line ``argv`` (without the program's name); return the exit status."""
    options = Options()
    name = ""
    try:
        options = parse(argv, _GLOBAL_OPTIONS, stop_at_argument=True)
        if options.flag("version"):
            print(f"{_PROGRAM} version {__version__}\nspec: {OCI_VERSION}")
            return 0
        if options.flag("help") or not options.args:
            _print_help()
            return 0
        name = options.args[0]
        return _run_command(name, options)
    except UsageError as exc:
        message = str(exc)
    except RuntimeFailure as exc:
        message = f"{_PROGRAM} {name} failed: {exc.message}"
    except OSError as exc:
        message = f"{_PROGRAM} {name} failed: {exc}"
    _report(options, message)
    return _EXEC_FAILED if name == "exec" else _FAILED


def _run_command(name: str, options: Options) -> int:
    command = _COMMANDS.get(name)
    if command is None:
        raise UsageError(f'No help topic for "{name}"')
    if command.starts_process:
        selfexe.protect()
    module = importlib.import_module(f"boxship.runtime.commands.{command.module}")
    table = getattr(module, command.options) if command.options else {}
    arguments = parse(options.args[1:], table | {"help h": FLAG}, stop_at_argument=name in _STOP_AT_ARGUMENT)
    if arguments.flag("help"):
        _print_command_help(name, table)
        return 0
    status: int = getattr(module, command.function)(os.path.abspath(options.value("root") or _DEFAULT_ROOT), arguments)
    return status


def _report(options: Options, message: str) -> None:
    """Write an error to stderr and, where asked, to the log file, in the two formats that callers read."""
    now = clock.rfc3339(clock.now_ns())
    line = f"time={json.dumps(now)} level=error msg={json.dumps(message)}"
    sys.stderr.write(line + "\n")
    path = options.value("log")
    if path:
        if options.value("log-format") == "json":
            line = json.dumps({"level": "error", "msg": message, "time": now})
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def _print_help() -> None:
    print(f"Usage: {_PROGRAM} [global options] command [options] [arguments...]\n\nCommands:")
    for name, command in _COMMANDS.items():
        print(f"   {name:10}{command.summary}")
    print("\nGlobal options:")
    _print_options(_GLOBAL_OPTIONS)


def _print_command_help(name: str, table: dict[str, int]) -> None:
    print(f"Usage: {_PROGRAM} {name} [options] [arguments...]\n\n{_COMMANDS[name].summary}\n\nOptions:")
    _print_options(table)


def _print_options(table: dict[str, int]) -> None:
    for spelled, kind in table.items():
        long, *shorts = spelled.split()
        names = ", ".join([f"--{long}", *(f"-{short}" for short in shorts)])
        print(f"   {names}{'' if kind == FLAG else ' value'}")
