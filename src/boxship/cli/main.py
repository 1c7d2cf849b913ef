"""The program ``boxship``, also when it is called ``docker``: finds the command, reads its flags, runs it.

Start-up time is the point of this module: it imports what every command needs and nothing else.
"""

from __future__ import annotations

import os
import sys

from boxship.cli.command import STDERR, STDOUT, ExitError, Session, write
from boxship.cli.commands import ALIASES, COMMANDS, GROUPS
from boxship.cli.flags import Flag, FlagError, parse
from boxship.client.config import Config, GlobalOptions, resolve_endpoint
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxship.cli.command import Command
    from boxship.cli.flags import Values

FLAG_ERROR = 125
INTERRUPTED = 130
LOG_LEVELS = ("panic", "fatal", "error", "warn", "warning", "info", "debug", "trace")

GLOBAL_FLAGS = (
    Flag("config", "string", "Location of client config files"),
    Flag(
        "context",
        "string",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set "
        'with "docker context use")',
        short="c",
    ),
    Flag("debug", "bool", "Enable debug mode", short="D"),
    Flag("host", "list", "Daemon socket to connect to", short="H"),
    Flag(
        "log-level",
        "string",
        'Set the logging level ("debug", "info", "warn", "error", "fatal")',
        short="l",
        default="info",
        shown='(default "info")',
    ),
    Flag("tls", "bool", "Use TLS; implied by --tlsverify"),
    Flag("tlscacert", "string", "Trust certs signed only by this CA"),
    Flag("tlscert", "string", "Path to TLS certificate file"),
    Flag("tlskey", "string", "Path to TLS key file"),
    Flag("tlsverify", "bool", "Use TLS and verify the remote"),
    Flag("version", "bool", "Print version information and quit", short="v"),
    Flag("help", "bool", hidden=True, short="h"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``arguments`` starts with the program's name. Returns the exit status."""
    words = list(sys.argv if arguments is None else arguments)
    program = "docker" if os.path.basename(words[0]) == "docker" else "boxship"
    try:
        return _run(program, words[1:])
    except ExitError as exc:
        text, status = exc.text, exc.status
        write(STDOUT, exc.shown.encode("utf-8", "surrogateescape"))
    except ClientError as exc:
        text, status = str(exc), 1
    except KeyboardInterrupt:
        text, status = "", INTERRUPTED
    except OSError as exc:
        text, status = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc), 1
    if text:
        write(STDERR, (text + "\n").encode("utf-8", "surrogateescape"))
    return status


def _run(program: str, words: list[str]) -> int:
    try:
        given = parse(GLOBAL_FLAGS, words, interspersed=False)
    except FlagError as exc:
        raise ExitError(_usage_error(str(exc), program, "[OPTIONS] COMMAND [ARG...]", program), FLAG_ERROR) from exc
    words = given.arguments
    wants_help = given.is_set("help")
    if words[:1] == ["help"]:
        words, wants_help = words[1:], True
    if not words:
        return _without_command(program, given, wants_help=wants_help)
    path, words = _find(program, words, wants_help=wants_help)
    if path in GROUPS:
        return _group_help(program, path, words)
    return _run_command(program, path, words, given, wants_help=wants_help)


def _find(program: str, words: list[str], *, wants_help: bool) -> tuple[str, list[str]]:
    """Return the command as it was typed and the words after it. Raises ExitError for one that is not there."""
    name = words[0]
    if name in GROUPS:
        if len(words) == 1 or words[1].startswith("-"):
            return name, words[1:]
        name = f"{name} {words[1]}"
        if name in COMMANDS or name in ALIASES:
            return name, words[2:]
        if wants_help:
            raise ExitError(f"unknown help topic: {' '.join(words[1:])}")
        problem = f"{program}: unknown command: {program} {name}"
        raise ExitError(_usage_error(problem, f"{program} {words[0]}", "", f"{program} {words[0]}"))
    if name in COMMANDS or name in ALIASES:
        return name, words[1:]
    raise ExitError(f"unknown help topic: {' '.join(words)}" if wants_help else _unknown(program, name))


def _unknown(program: str, name: str) -> str:
    return f"{program}: unknown command: {program} {name}\n\nRun '{program} --help' for more information"


def _usage_error(problem: str, path: str, usage: str, typed: str, hint: str = "Run") -> str:
    shown = f"{path} {usage}".rstrip()
    return f"{problem}\n\nUsage:  {shown}\n\n{hint} '{typed} --help' for more information"


def _run_command(program: str, path: str, words: list[str], given: Values, *, wants_help: bool) -> int:
    name = ALIASES.get(path, path)
    command = load(name)
    typed = f"{program} {path}"
    usage = command_usage(command, path, program)
    try:
        values = parse(command.flags, words, interspersed=command.interspersed, synonyms=command.synonyms)
    except FlagError as exc:
        raise ExitError(_usage_error(str(exc), typed, usage, typed), FLAG_ERROR) from exc
    if wants_help or values.is_set("help"):
        from boxship.cli.help import command_help

        write(STDOUT, command_help(program, path, command).encode())
        return 0
    if not (command.over_ssh and values.arguments and values.arguments[0].startswith("ssh://")):
        _check_count(command, len(values.arguments), typed, usage, program)
    session = _open_session(program, typed, given)
    for notice in values.notices:
        session.line(notice)
    return command.run(session, values)


def load(name: str) -> Command:
    """Import the command's module and return the command; ``name`` is a key of COMMANDS."""
    # __import__ of the builtin module is there already; importlib's wrapper would be one more import.
    module_name = f"boxship.cli.commands.{COMMANDS[name][0]}"
    __import__(module_name)
    commands: dict[str, Command] = sys.modules[module_name].COMMANDS
    return commands[name]


def command_usage(command: Command, path: str, program: str) -> str:
    """Return the usage after the typed path; a second form stands with its whole path on its own line."""
    first, *more = command.usage.split("\n")
    return "\n".join([first, *(f"\t{program} {path} {line}" for line in more)])


def _check_count(command: Command, count: int, typed: str, usage: str, program: str) -> None:
    least, most = command.least, command.most
    if count >= least and (most is None or count <= most):
        return
    if most == 0:
        needs = "accepts no arguments"
    elif most == least:
        needs = f"requires {least} argument{'s' if least > 1 else ''}"
    elif most is None:
        needs = f"requires at least {least} argument{'s' if least > 1 else ''}"
    elif least == 0:
        needs = f"requires at most {most} argument{'s' if most > 1 else ''}"
    else:
        needs = f"requires at least {least} and at most {most} arguments"
    hint = "See" if most is None else "Run"
    raise ExitError(_usage_error(f"{program}: '{typed}' {needs}", typed, usage, typed, hint))


def _open_session(program: str, typed: str, given: Values) -> Session:
    if given.text("log-level") not in LOG_LEVELS:
        raise ExitError(f"Unable to parse logging level: {given.text('log-level')}")
    options = GlobalOptions()
    options.hosts = given.many("host")
    options.context = given.text("context")
    options.debug = given.is_set("debug")
    options.tls = given.is_set("tls") if "tls" in given.changed else None
    options.tls_verify = given.is_set("tlsverify") if "tlsverify" in given.changed else None
    options.tlscacert = given.text("tlscacert")
    options.tlscert = given.text("tlscert")
    options.tlskey = given.text("tlskey")
    config = Config(given.text("config"))
    try:
        endpoint = resolve_endpoint(options, config)
    except ClientError as exc:
        raise ExitError(f"Failed to initialize: {exc}") from exc
    return Session(program, typed, options, config, endpoint)


def _without_command(program: str, given: Values, *, wants_help: bool) -> int:
    if given.is_set("version"):
        from boxship import __version__

        write(
            STDOUT, f"{'Docker' if program == 'docker' else 'Boxship'} version {__version__}, build boxship\n".encode()
        )
        return 0
    from boxship.cli.help import program_help

    write(STDOUT if wants_help else STDERR, program_help(program, GLOBAL_FLAGS, Config(given.text("config"))).encode())
    return 0


def _group_help(program: str, group: str, words: list[str]) -> int:
    from boxship.cli.help import group_help

    if words and words[0] not in ("--help", "-h"):
        problem = f"unknown flag: {words[0]}" if words[0].startswith("--") else _unknown_short(words[0])
        raise ExitError(_usage_error(problem, f"{program} {group}", "", f"{program} {group}"), FLAG_ERROR)
    write(STDOUT if words else STDERR, group_help(program, group).encode())
    return 0


def _unknown_short(word: str) -> str:
    return f"unknown shorthand flag: '{word[1:2]}' in {word}"


if __name__ == "__main__":
    sys.exit(main())
