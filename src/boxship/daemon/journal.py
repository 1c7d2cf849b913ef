"""The daemon's own log: to stderr, as text or JSON, in dockerd's form.

``time="2024-01-02T03:04:05.678901234Z" level=info msg="..." error="..."``
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

from boxship.base.clock import rfc3339_fixed

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_WORDS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}


class Formatter(logging.Formatter):
    """One line for each record; a traceback becomes one field with escaped line ends."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": rfc3339_fixed(int(record.created * 1_000_000_000)),
            "level": _WORDS.get(record.levelno, record.levelname.lower()),
            "msg": record.getMessage(),
        }
        if record.name != "boxship" and record.levelno <= logging.DEBUG:
            fields["module"] = record.name
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if self._as_json:
            return json.dumps(fields)
        return " ".join(
            f"{name}={value if name in ('level', 'module') else json.dumps(value)}" for name, value in fields.items()
        )


def configure(level: str, format: str, stream: TextIO | None = None) -> None:
    """Send all logging to ``stream`` (default stderr). Calling it again replaces what was."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter(as_json=format == "json"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Change the level; libraries speak from warnings on only."""
    logging.getLogger().setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("boxship").setLevel(LEVELS[level])
