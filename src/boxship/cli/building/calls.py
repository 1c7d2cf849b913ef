"""``build --call`` and ``--check``: what the engine says of a Dockerfile without building it, as buildx prints it."""

from __future__ import annotations

from binascii import b2a_base64

from boxship.cli.building.checking import report
from boxship.cli.command import ExitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

METHODS = ("build", "check", "lint", "outline", "targets")


def parse_call(text: str) -> tuple[str, str]:
    """Return method and format (text, json) of ``METHOD[,format=FORMAT]``. Raises ValueError."""
    method, *options = text.split(",")
    if method not in METHODS:
        raise ValueError(f'unsupported method {method}: there are "build", "check", "outline" and "targets"')
    form = "text"
    for option in options:
        name, equals, value = option.partition("=")
        if name != "format" or not equals:
            raise ValueError(f"invalid call option {option}")
        if value not in ("text", "json"):
            raise ValueError(f"unsupported format {value}")
        form = value
    return "check" if method == "lint" else method, form


def answer(events: Iterable[dict[str, Any]], form: str) -> tuple[str, int]:
    """Return what is printed, and the exit status: 1 when a check found something. Raises ExitError when nothing could be said."""
    findings: list[dict[str, Any]] = []
    for event in events:
        match event["event"]:
            case "warned":
                findings.append(event)
            case "aborted":
                shown = f"{event['excerpt']}\n" if event.get("excerpt") else ""
                raise ExitError(f"{shown}ERROR: {event['message']}")
            case "checked":
                shown = report(findings, event["name"], event["text"])
                return (_json(_checked(findings, event)) if form == "json" else shown), 1 if findings else 0
            case "described":
                document = event["document"]
                text = targets_text(document) if "targets" in document else outline_text(document)
                return (_json(document) if form == "json" else text), 0
    raise ExitError("ERROR: the engine did not say what it found")


def targets_text(document: dict[str, Any]) -> str:
    """Return the stages as a table."""
    rows = [("TARGET", "DESCRIPTION")]
    for each in document["targets"]:
        name = each.get("name", "")
        if each.get("default"):
            name = f"{name} (default)" if name else "(default)"
        rows.append((name, each.get("description", "")))
    return _table(rows)


def outline_text(document: dict[str, Any]) -> str:
    """Return the parameters of a target as tables."""
    heads = [("TARGET:", document.get("name", "(default)"))]
    if document.get("description"):
        heads.append(("DESCRIPTION:", document["description"]))
    parts = [_table(heads)]
    if args := document.get("args"):
        rows = [(each["name"], each.get("value", ""), each.get("description", "")) for each in args]
        parts.append(_table([("BUILD ARG", "VALUE", "DESCRIPTION"), *rows]))
    for key, title in (("secrets", "SECRET"), ("ssh", "SSH")):
        if given := document.get(key):
            found = [(each["name"], "true" if each.get("required") else "") for each in given]
            parts.append(_table([(title, "REQUIRED"), *found]))
    return "\n".join(parts)


def _checked(findings: Sequence[dict[str, Any]], event: dict[str, Any]) -> dict[str, Any]:
    data = b2a_base64(event["text"].encode("utf-8", "surrogateescape"), newline=False).decode()
    warnings = [
        {
            "ruleName": each["rule"],
            "url": each.get("url", ""),
            "detail": each["message"],
            "location": {
                "ranges": [{"start": {"line": each["line"]}, "end": {"line": each.get("end_line") or each["line"]}}]
                if each.get("line")
                else []
            },
        }
        for each in findings
    ]
    return {"warnings": warnings, "sources": [{"fileName": event["name"], "language": "Dockerfile", "data": data}]}


def _json(document: dict[str, Any]) -> str:
    from json import dumps  # with lines, which the quicker one cannot

    return dumps(document, indent=2, ensure_ascii=False) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(len(rows[0]))]
    lines = ("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)
