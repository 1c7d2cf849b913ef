"""``logs``: what a container wrote."""

from __future__ import annotations

from boxship.cli.clock import timestamp
from boxship.cli.command import STDERR, STDOUT, Command, ExitError, write
from boxship.cli.flags import Flag
from boxship.client.engine import quote
from boxship.wire import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

_MOMENT = 'timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'

FLAGS = (
    Flag("details", "bool", "Show extra details provided to logs"),
    Flag("follow", "bool", "Follow log output", short="f"),
    Flag("since", "string", f"Show logs since {_MOMENT}"),
    Flag(
        "tail",
        "string",
        "Number of lines to show from the end of the logs",
        short="n",
        default="all",
        shown='(default "all")',
    ),
    Flag("timestamps", "bool", "Show timestamps", short="t"),
    Flag("until", "string", f"Show logs before a {_MOMENT}"),
)


def run(session: Session, values: Values) -> int:
    """Print the container's log, stdout and stderr each to its own."""
    found = session.engine.json("GET", f"/containers/{quote(values.arguments[0])}/json")
    query: dict[str, object] = {"stdout": True, "stderr": True, "tail": values.text("tail")}
    for name in ("since", "until"):
        if values.text(name):
            try:
                query[name] = timestamp(values.text(name))
            except ValueError as exc:
                raise ExitError(f'invalid value for "{name}": {exc}') from exc
    for name in ("details", "follow", "timestamps"):
        if values.is_set(name):
            query[name] = True
    reader = session.engine.stream("GET", f"/containers/{found['Id']}/logs", query)
    if found["Config"]["Tty"]:
        while piece := reader.read_some():
            write(STDOUT, piece)
        return 0
    decoder = frames.Decoder()
    while piece := reader.read_some():
        try:
            for stream, payload in decoder.feed(piece):
                if stream == frames.SYSTEM_ERROR:
                    raise ExitError(f"error from daemon in stream: {payload.decode('utf-8', 'replace')}")
                write(STDERR if stream == frames.STDERR else STDOUT, payload)
        except frames.FrameError as exc:
            raise ExitError(str(exc)) from exc
    return 0


COMMANDS = {"container logs": Command("[OPTIONS] CONTAINER", run, FLAGS, least=1, most=1)}
