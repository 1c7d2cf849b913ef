"""Which events pass the filters of GET /events, as Docker decides it.

Values of one key are alternatives, but for ``label``, all of which must hold; different keys must all hold. A key that
names a kind of object looks at the object's id and name and not at the event's type: ``container=web`` also lets the events
of a volume ``web-data`` pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from boxship.base.errors import InvalidInput
from boxship.spec.docker.system import EventMessage

Filters = Mapping[str, Sequence[str]]

_BY_PREFIX = frozenset(("config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"))
_KEYS = _BY_PREFIX | {"event", "image", "label", "scope", "type"}
_WITH_DETAIL = frozenset(("exec_create", "exec_start", "health_status"))  # actions that go on after a colon


def check(filters: Filters) -> None:
    """Raise InvalidInput for a key that events do not have: ignoring it, as Docker does, would show too much."""
    for key in filters:
        if key not in _KEYS:
            raise InvalidInput(f"invalid filter '{key}'")


def matches(event: EventMessage, filters: Filters) -> bool:
    """Return whether the event passes all filters."""
    return all(_matches(event, key, values) for key, values in filters.items() if values)


def _matches(event: EventMessage, key: str, values: Sequence[str]) -> bool:
    attributes = event.actor.attributes
    match key:
        case "type":
            return event.type in values
        case "scope":
            return event.scope in values
        case "event":
            if _WITH_DETAIL.isdisjoint(values):
                return event.action in values
            return event.action.startswith(tuple(values))  # all of them, once one of these three is among them
        case "label":
            return all(
                attributes.get(name) == value if equals else name in attributes
                for name, equals, value in (wanted.partition("=") for wanted in values)
            )
        case "image":
            name = attributes.get("name" if event.type == "image" else "image", "")
            return any(text in values for text in (event.actor.id, name, _untagged(event.actor.id), _untagged(name)))
        case _:
            prefixes = tuple(values)
            return event.actor.id.startswith(prefixes) or attributes.get("name", "").startswith(prefixes)


def _untagged(reference: str) -> str:
    """Return a reference without its tag: ``host:5000/app:1`` is ``host:5000/app``."""
    head, colon, tag = reference.rpartition(":")
    return head if colon and "/" not in tag else reference
