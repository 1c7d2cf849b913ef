"""``stop``, ``restart``, ``kill``, ``pause``, ``unpause``, ``wait``, ``rename``: one call for each container."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError, each
from boxship.cli.flags import Flag
from boxship.client.engine import quote
from boxship.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

SIGNAL = Flag("signal", "string", "Signal to send to the container", short="s")
TIMEOUT = Flag("timeout", "int", "Seconds to wait before killing the container", short="t")
OLD_TIMEOUT = Flag("time", "int", "Seconds to wait before killing the container", deprecated="use --timeout instead")


def _stop_query(session: Session, values: Values) -> dict[str, object]:
    if {"time", "timeout"} <= values.changed:
        raise ExitError("conflicting options: cannot specify both --timeout and --time")
    query: dict[str, object] = {}
    for name in ("timeout", "time"):
        if name in values.changed:
            query["t"] = values.number(name)
    if signal := values.text("signal"):
        session.engine.require("1.42", "--signal")
        query["signal"] = signal
    return query


def stop(session: Session, values: Values) -> int:
    """Stop containers."""
    return _post_each(session, values, "stop", _stop_query(session, values))


def restart(session: Session, values: Values) -> int:
    """Restart containers."""
    return _post_each(session, values, "restart", _stop_query(session, values))


def kill(session: Session, values: Values) -> int:
    """Send a signal to containers."""
    signal = values.text("signal")
    return _post_each(session, values, "kill", {"signal": signal} if signal else {})


def pause(session: Session, values: Values) -> int:
    """Freeze containers."""
    return _post_each(session, values, "pause", {})


def unpause(session: Session, values: Values) -> int:
    """Thaw containers."""
    return _post_each(session, values, "unpause", {})


def _post_each(session: Session, values: Values, verb: str, query: dict[str, object]) -> int:
    def post(name: str) -> str:
        session.engine.json("POST", f"/containers/{quote(name)}/{verb}", query)
        return name

    return each(session, values.arguments, post)


def wait(session: Session, values: Values) -> int:
    """Wait for containers to stop and print their exit codes."""

    def post(name: str) -> str:
        answer = session.engine.json("POST", f"/containers/{quote(name)}/wait")
        return str(answer["StatusCode"])

    return each(session, values.arguments, post)


def rename(session: Session, values: Values) -> int:
    """Give a container another name."""
    old, new = (name.strip() for name in values.arguments)
    if not old or not new:
        raise ExitError("Error: Neither old nor new names may be empty")
    try:
        session.engine.json("POST", f"/containers/{quote(old)}/rename", {"name": new})
    except ApiError as exc:
        session.error(str(exc))
        raise ExitError(f"Error: failed to rename container named {old}") from exc
    return 0


_SOME = "[OPTIONS] CONTAINER [CONTAINER...]"

COMMANDS = {
    "container stop": Command(_SOME, stop, (SIGNAL, TIMEOUT, OLD_TIMEOUT), least=1, most=None),
    "container restart": Command(_SOME, restart, (SIGNAL, TIMEOUT, OLD_TIMEOUT), least=1, most=None),
    "container kill": Command(_SOME, kill, (SIGNAL,), least=1, most=None),
    "container pause": Command("CONTAINER [CONTAINER...]", pause, least=1, most=None),
    "container unpause": Command("CONTAINER [CONTAINER...]", unpause, least=1, most=None),
    "container wait": Command("CONTAINER [CONTAINER...]", wait, least=1, most=None),
    "container rename": Command("CONTAINER NEW_NAME", rename, least=2, most=2),
}
