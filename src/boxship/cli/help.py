"""The texts of ``--help``, laid out as Docker's: usage, summary, aliases, a column of flags wrapped to the terminal's width."""

from __future__ import annotations

from boxship.cli.commands import ALIASES, COMMANDS, COMMON, GROUPS, HIDDEN
from boxship.cli.main import command_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxship.cli.command import Command
    from boxship.cli.flags import Flag
    from boxship.client.config import Config

DEFAULT_WIDTH = 80
MIN_WRAP = 24  # narrower columns are not wrapped
SLOP = 5  # a line may be this much longer when the rest fits on it: no short last lines


def command_help(program: str, path: str, command: Command) -> str:
    """Return the help of one command, called by ``path``."""
    name = ALIASES.get(path, path)
    summary = COMMANDS[name][1]
    blocks = [f"Usage:  {program} {path} {command_usage(command, path, program)}".rstrip(), summary]
    if command.extra:
        blocks.append(command.extra)
    aliases = [name, *sorted(alias for alias, target in ALIASES.items() if target == name)]
    if len(aliases) > 1:
        aliases.sort(key=lambda alias: (" " not in alias, alias != name, alias))
        blocks.append("Aliases:\n  " + ", ".join(f"{program} {alias}" for alias in aliases))
    if shown := flag_lines(command.flags, terminal_width() - 1):
        blocks.append("Options:\n" + shown)
    return "\n\n".join(blocks) + "\n"


def group_help(program: str, group: str) -> str:
    """Return the help of a group of commands."""
    names = sorted(name.partition(" ")[2] for name in _all_names() if name.startswith(group + " "))
    lines = [_row(name, _summary(f"{group} {name}")) for name in names if f"{group} {name}" in _shown_names(group)]
    return (
        f"Usage:  {program} {group} COMMAND\n\n{GROUPS[group]}\n\nCommands:\n" + "\n".join(lines) + "\n\n"
        f"Run '{program} {group} COMMAND --help' for more information on a command.\n"
    )


def program_help(program: str, flags: Sequence[Flag], config: Config) -> str:
    """Return the help of the whole program."""
    top = sorted(name for name in _all_names() if " " not in name)
    blocks = [
        f"Usage:  {program} [OPTIONS] COMMAND",
        "A self-sufficient runtime for containers",
        "Common Commands:\n" + "\n".join(_row(name, _summary(name)) for name in COMMON),
        "Management Commands:\n" + "\n".join(_row(name, GROUPS[name]) for name in sorted(GROUPS)),
        "Commands:\n" + "\n".join(_row(name, _summary(name)) for name in top if name not in COMMON),
        "Global Options:\n" + flag_lines(flags, terminal_width() - 1, _path_defaults(config)),
        f"Run '{program} COMMAND --help' for more information on a command.",
    ]
    return "\n\n".join(blocks) + "\n"


def flag_lines(flags: Sequence[Flag], width: int, shown: dict[str, str] | None = None) -> str:
    """Return the flags that are not hidden, a row each, their help wrapped into a column that ends at ``width``."""
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.long):
        if flag.hidden:
            continue
        left = f"  -{flag.short}, --{flag.long}" if flag.short else f"      --{flag.long}"
        type = "" if flag.type == "bool" else f" {flag.type}"
        default = (shown or {}).get(flag.long) or flag.shown
        rows.append((left + type, f"{flag.help} {default}" if default else flag.help))
    column = max((len(left) for left, _ in rows), default=0) + 3
    return "\n".join(left.ljust(column) + wrap(text, column, width) for left, text in rows)


def wrap(text: str, column: int, width: int) -> str:
    """Return ``text`` in lines between ``column`` and ``width``, line feeds kept; the first line is not indented."""
    room = width - column
    head = ""
    if room < MIN_WRAP:
        column = 16
        room = width - column
        head = "\n" + " " * column
        if room < MIN_WRAP:
            return text
    pieces = []
    rest = text
    while rest:
        piece, rest = _cut(rest, room - SLOP)
        pieces.append(piece)
    return head + "\n".join(pieces).replace("\n", "\n" + " " * column)


def _cut(text: str, room: int) -> tuple[str, str]:
    """Split ``text`` at the last blank within ``room``, at a line feed rather than at a space."""
    if room + SLOP > len(text):
        return text, ""
    blank = max(text.rfind(space, 0, room) for space in " \t\n")
    if blank <= 0:
        return text, ""
    feed = text.rfind("\n", 0, room)
    if 0 < feed < blank:
        blank = feed
    return text[:blank], text[blank + 1 :]


def terminal_width() -> int:
    """Return the columns of the terminal on stdin, 80 without one."""
    import os

    try:
        return os.get_terminal_size(0).columns or DEFAULT_WIDTH
    except OSError:
        return DEFAULT_WIDTH


def _all_names() -> list[str]:
    return [name for name in (*COMMANDS, *ALIASES) if name not in HIDDEN]


def _shown_names(group: str) -> set[str]:
    """Names of a group without second names: ``container ls`` but not ``container list``."""
    seconds = {alias for alias in ALIASES if " " in alias and ALIASES[alias].startswith(group + " ")}
    return {name for name in _all_names() if name.startswith(group + " ")} - seconds


def _summary(name: str) -> str:
    return COMMANDS[ALIASES.get(name, name)][1]


def _row(name: str, summary: str) -> str:
    return f"  {name:<11} {summary}"


def _path_defaults(config: Config) -> dict[str, str]:
    directory = config.directory
    return {
        "config": f'(default "{directory}")',
        "tlscacert": f'(default "{directory}/ca.pem")',
        "tlscert": f'(default "{directory}/cert.pem")',
        "tlskey": f'(default "{directory}/key.pem")',
    }
