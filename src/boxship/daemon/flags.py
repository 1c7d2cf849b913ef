"""The daemon's command line, read as dockerd reads it (GNU style: ``--flag=value``, ``--flag value``, ``-Dl debug``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from boxship.daemon.options import BY_FLAG, BY_SHORT, OPTIONS, BadValue, Bool, Option

USAGE = "\nUsage:  {program} [OPTIONS]\n\nA self-sufficient runtime for containers.\n"
SWITCHES = {
    "help": "Print usage",
    "validate": "Validate daemon configuration and exit",
    "version": "Print version information and quit",
}
_SHORT_SWITCHES = {"v": "version", "h": "help"}


class UsageError(Exception):
    """The command line is wrong; the text is for the person."""


class Flags(NamedTuple):
    """What the command line gave: values and texts by flag name, and the switches (help, validate, version)."""

    values: dict[str, Any]
    texts: dict[str, list[str]]
    switches: frozenset[str]


def parse(arguments: Sequence[str]) -> Flags:
    """Return the flags of ``arguments`` (without the program's name). Raises UsageError."""
    texts: dict[str, list[str]] = {}
    values: dict[str, list[Any]] = {}
    switches = set()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        for name, text in _split(argument, rest):
            if name in SWITCHES:
                if Bool().from_text(text or "true"):
                    switches.add(name)
                continue
            option = BY_FLAG[name]
            if text is None:
                raise UsageError(f"flag needs an argument: {argument}")
            try:
                values.setdefault(name, []).append(option.kind.from_text(text))
            except BadValue as exc:
                shown = f"-{option.short}, --{name}" if option.short else f"--{name}"
                raise UsageError(f'invalid argument "{text}" for "{shown}" flag: {exc}') from exc
            texts.setdefault(name, []).append(text)
    merged = {name: BY_FLAG[name].kind.merge(found) for name, found in values.items()}
    return Flags(merged, texts, frozenset(switches))


def usage(program: str) -> str:
    """Return the text of ``--help``."""
    lines = [USAGE.format(program=program), "Options:"]
    rows = [(option.flag, option) for option in OPTIONS if option.flag and option.help != "Ignored"]
    names = sorted([name for name, _ in rows] + list(SWITCHES))
    by_name: dict[str, Option] = dict(rows)
    for name in names:
        if name in SWITCHES:
            left = f"  -v, --{name}" if name == "version" else f"      --{name}"
            lines.append(f"{left:<46}{SWITCHES[name]}")
        else:
            option = by_name[name]
            short = f"  -{option.short}, " if option.short else "      "
            lines.append(f"{f'{short}--{name} {option.kind.metavar}':<46}{option.help}")
    return "\n".join(lines) + "\n"


def _split(argument: str, rest: list[str]) -> list[tuple[str, str | None]]:
    """Return the flags in one argument with their texts; a text in the next argument is taken from ``rest``."""
    if argument.startswith("--") and len(argument) > 2:
        name, equals, text = argument[2:].partition("=")
        if name not in BY_FLAG and name not in SWITCHES:
            raise UsageError(f"unknown flag: --{name}")
        if equals:
            return [(name, text)]
        return [(name, _following(name, rest))]
    if argument.startswith("-") and len(argument) > 1 and argument != "--":
        return _split_short(argument, rest)
    raise UsageError("accepts no argument(s).")


def _split_short(argument: str, rest: list[str]) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    letters = argument[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in BY_SHORT:
            name = BY_SHORT[letter].flag or ""
        elif letter in _SHORT_SWITCHES:
            name = _SHORT_SWITCHES[letter]
        else:
            raise UsageError(f"unknown shorthand flag: '{letter}' in {argument}")
        if letters.startswith("="):
            return [*found, (name, letters[1:])]
        if letters and not _is_bool(name):
            return [*found, (name, letters)]
        text = "true" if _is_bool(name) else _following(name, rest)
        if text is None:
            raise UsageError(f"flag needs an argument: '{letter}' in {argument}")
        found.append((name, text))
    return found


def _is_bool(name: str) -> bool:
    return name in SWITCHES or isinstance(BY_FLAG[name].kind, Bool)


def _following(name: str, rest: list[str]) -> str | None:
    if _is_bool(name):
        return "true"
    return rest.pop(0) if rest else None
