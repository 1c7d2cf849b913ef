"""``why``: what ended a container, who asked for it, and what follows; Docker has no such command."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError, each
from boxship.cli.flags import Flag
from boxship.client import jsontext
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("format", "string", "Format output using 'json' or a Go template; {{.Text}} is the paragraph"),
    Flag("json", "bool", "The same as --format json"),
)


def run(session: Session, values: Values) -> int:
    """Print a paragraph for each container."""
    show = _formatter("json" if values.value("json") else values.text("format"))

    def explain(container: str) -> str:
        return show(session.engine.json("GET", f"/boxship/containers/{quote(container)}/why"))

    return each(session, values.arguments, explain)


def _formatter(format: str) -> Callable[[Any], str]:
    if not format:
        return lambda found: str(found["Text"])
    if format == "json":
        return jsontext.dumps
    from boxship.cli.template.errors import ExecError, ParseError
    from boxship.cli.template.execute import Template
    from boxship.cli.template.objects import typed

    try:
        template = Template(format)
    except ParseError as exc:
        raise ExitError(f"Error parsing format: {exc}", 64) from exc

    def show(found: Any) -> str:
        try:
            return template.render(typed(found))
        except ExecError as exc:
            raise ExitError(str(exc)) from exc

    return show


COMMANDS = {"why": Command("[OPTIONS] CONTAINER [CONTAINER...]", run, FLAGS, least=1, most=None)}
