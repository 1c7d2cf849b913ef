"""``build --check``: what the linter finds, as Docker prints it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
