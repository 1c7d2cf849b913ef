"""``build --check``: what the linter finds, as Docker prints it."""

from __future__ import annotations

from boxship.cli.command import ExitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def checked(events: Iterable[dict[str, Any]]) -> tuple[str, int]:
    """Return what is printed when the engine has looked at the Dockerfile, and the exit status: 1 for findings.

    Raises ExitError when it could not look.
    """
    warnings: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "warned":
            warnings.append(event)
        elif event["event"] == "aborted":
            raise ExitError(f"ERROR: {event['message']}")
        elif event["event"] == "checked":
            return report(warnings, event["name"], event["text"]), 1 if warnings else 0
    raise ExitError("ERROR: the engine did not say what it found")


def report(warnings: list[dict[str, Any]], name: str, text: str) -> str:
    """Return the findings with the lines of the Dockerfile that they are about."""
    from boxship.spec.dockerfile.errors import excerpt

    if not warnings:
        return "Check complete, no warnings found.\n"
    count = "1 warning has" if len(warnings) == 1 else f"{len(warnings)} warnings have"
    shown = f"Check complete, {count} been found!\n"
    lines = [line.rstrip("\r") for line in text.split("\n")]
    for each in warnings:
        url = f" - {each['url']}" if each.get("url") else ""
        shown += f"\nWARNING: {each['rule']}{url}\n{each['message']}\n"
        if each.get("line"):
            shown += excerpt(name, lines, each["line"], each.get("end_line") or each["line"]) + "\n"
    return shown
