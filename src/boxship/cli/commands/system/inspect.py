"""``inspect`` and ``container``/``image``/``network``/``volume inspect``."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError
from boxship.cli.flags import JSON_FORMAT, Flag
from boxship.client import jsontext
from boxship.client.engine import quote
from boxship.client.errors import ApiError, ClientError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Fetch = Callable[[Session, str, Values], Any]

SIZE = Flag("size", "bool", "Display total file sizes", short="s")
TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")


def _container(session: Session, name: str, values: Values) -> Any:
    return session.engine.json("GET", f"/containers/{quote(name)}/json", {"size": True} if _wants_size(values) else {})


def _wants_size(values: Values) -> bool:
    return "size" in values.changed and values.is_set("size")


def _image(session: Session, name: str, values: Values) -> Any:
    query = {}
    if "platform" in values.changed:
        from boxship.cli.reference import platform_json

        session.engine.require("1.49", "--platform")
        query["platform"] = platform_json(values.text("platform"))
    return session.engine.json("GET", f"/images/{quote(name, '/:@')}/json", query)


def _network(session: Session, name: str, values: Values) -> Any:
    query = {"verbose": True} if "verbose" in values.changed else {}
    return session.engine.json("GET", f"/networks/{quote(name)}", query)


def _plain(path: str) -> Fetch:
    def fetch(session: Session, name: str, _values: Values) -> Any:
        return session.engine.json("GET", f"/{path}/{quote(name)}")

    return fetch


# In this order a name without --type is looked up. The second is whether the engine must be part of a swarm for it.
KINDS: dict[str, tuple[Fetch, bool]] = {
    "container": (_container, False),
    "image": (_image, False),
    "network": (_network, False),
    "volume": (_plain("volumes"), False),
    "service": (_plain("services"), True),
    "task": (_plain("tasks"), True),
    "node": (_plain("nodes"), True),
    "plugin": (_plain("plugins"), False),
    "secret": (_plain("secrets"), True),
    "config": (_plain("configs"), True),
}
_NOT_HERE = (501, 503)  # not a swarm manager, or an engine without plugins


def inspect_any(session: Session, values: Values) -> int:
    """Show objects of the type that was asked for, or of whatever type has the name."""
    type = values.text("type")
    if "type" in values.changed and type not in TYPES:
        problem = f'unknown type: "{type}"' if type else "type is empty"
        raise ExitError(f'{problem}: must be one of "' + '", "'.join(TYPES) + '"')
    if type:
        return _show(session, values, KINDS[type][0])
    return _show(session, values, _find)


def _find(session: Session, name: str, values: Values) -> Any:
    for fetch, needs_swarm in KINDS.values():
        try:
            return fetch(session, name, values)
        except NotFoundError:
            continue
        except ApiError as exc:
            if needs_swarm or exc.status in _NOT_HERE or "not a swarm manager" in exc.message:
                continue
            raise
    raise ClientError(f"Error: No such object: {name}")


def _only(kind: str) -> Callable[[Session, Values], int]:
    def run(session: Session, values: Values) -> int:
        return _show(session, values, KINDS[kind][0])

    return run


def _show(session: Session, values: Values, fetch: Fetch) -> int:
    """Print the objects that were found, then the errors for those that were not."""
    found, errors = [], []
    for name in values.arguments:
        try:
            found.append(fetch(session, name, values))
        except ClientError as exc:
            errors.append(str(exc))
    status = print_objects(session, found, values.text("format"))
    for error in errors:
        session.error(error)
    return 1 if errors else status


def print_objects(session: Session, found: Sequence[Any], format: str) -> int:
    """Print objects as indented JSON, as one line of JSON each, or through a template."""
    if not format:
        session.line(jsontext.indented(list(found)))
    elif format == "json":
        session.line(jsontext.dumps(list(found)))
    else:
        from boxship.cli.template.objects import render_objects

        session.out(render_objects(format, found))
    return 0


_PLATFORM = Flag(
    "platform",
    "string",
    "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, "
    "the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. "
    "linux/amd64)",
)

COMMANDS = {
    "inspect": Command(
        "[OPTIONS] NAME|ID [NAME|ID...]",
        inspect_any,
        (
            JSON_FORMAT,
            Flag("size", "bool", "Display total file sizes if the type is container", short="s"),
            Flag("type", "string", "Only inspect objects of the given type"),
        ),
        least=1,
        most=None,
    ),
    "container inspect": Command(
        "[OPTIONS] CONTAINER [CONTAINER...]", _only("container"), (JSON_FORMAT, SIZE), least=1, most=None
    ),
    "image inspect": Command(
        "[OPTIONS] IMAGE [IMAGE...]", _only("image"), (JSON_FORMAT, _PLATFORM), least=1, most=None
    ),
    "network inspect": Command(
        "[OPTIONS] NETWORK [NETWORK...]",
        _only("network"),
        (JSON_FORMAT, Flag("verbose", "bool", "Verbose output for diagnostics", short="v")),
        least=1,
        most=None,
    ),
    "volume inspect": Command("[OPTIONS] VOLUME [VOLUME...]", _only("volume"), (JSON_FORMAT,), least=1, most=None),
}
