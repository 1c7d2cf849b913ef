"""``system events``: what happens in the engine, as it happens."""

from __future__ import annotations

from boxship.cli.clock import local_rfc3339, timestamp
from boxship.cli.command import Command, ExitError
from boxship.cli.flags import FILTER, JSON_FORMAT, Flag
from boxship.cli.units import SECOND
from boxship.client import jsontext
from boxship.client.engine import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Event = dict[str, Any]

FLAGS = (
    FILTER,
    Flag("format", "string", JSON_FORMAT.help),
    Flag("since", "string", "Show all events created since timestamp"),
    Flag("until", "string", "Stream events until this timestamp"),
)

GO_NAMES = {"Status": "status", "ID": "id", "From": "from", "Scope": "scope", "Time": "time", "TimeNano": "timeNano"}


def event_line(event: Event) -> str:
    """Return one event as a line: time, type, action, ID and attributes by name."""
    nanoseconds = event.get("timeNano") or (event.get("time") or 0) * SECOND
    moment = local_rfc3339(nanoseconds // SECOND, nanoseconds % SECOND) if nanoseconds else ""
    actor = event.get("Actor") or {}
    text = f"{moment} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        text += " (" + ", ".join(f"{name}={attributes[name]}" for name in sorted(attributes)) + ")"
    return text


def run(session: Session, values: Values) -> int:
    """Print events until --until or until the user stops."""
    query: dict[str, object] = {}
    for name in ("since", "until"):
        if values.text(name):
            try:
                query[name] = timestamp(values.text(name))
            except ValueError as exc:
                raise ExitError(str(exc)) from exc
    if filters := values.filters():
        query["filters"] = filters_text(filters)
    show = _formatter(values.text("format"))
    for event in session.engine.messages(session.engine.stream("GET", "/events", query)):
        session.line(show(event))
    return 0


def _formatter(format: str) -> Any:
    """Return the function that makes an event's text."""
    if not format:
        return event_line
    if format in ("json", "{{json .}}"):
        return jsontext.dumps
    from boxship.cli.template.errors import ExecError, ParseError
    from boxship.cli.template.execute import Template
    from boxship.cli.template.objects import Typed, typed

    class Message(Typed):
        """An event whose fields have Go's names in templates, and the API's as JSON."""

        def field(self, name: str, arguments: list[object]) -> object:
            if name in GO_NAMES:
                return self.get(GO_NAMES[name], "")
            return super().field(name, arguments)

    try:
        template = Template(format)
    except ParseError as exc:
        raise ExitError(f"Error parsing format: {exc}", 64) from exc

    def show(event: Event) -> str:
        try:
            return template.render(Message({name: typed(value, name) for name, value in event.items()}))
        except ExecError as exc:
            raise ExitError(str(exc)) from exc

    return show


COMMANDS = {"system events": Command("[OPTIONS]", run, FLAGS)}
