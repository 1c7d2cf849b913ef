"""``attach``: join the stdio of a running container's main process."""

from __future__ import annotations

from boxship.cli.attached import Attachment, ContainerSignals, detach_keys, exit_status, start_waiting
from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag
from boxship.cli.stdio import check_tty
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
    Flag("no-stdin", "bool", "Do not attach STDIN"),
    Flag("sig-proxy", "bool", "Proxy all received signals to the process", default=True, shown="(default true)"),
)


def run(session: Session, values: Values) -> int:
    """Attach until the container ends or the user detaches; return the container's exit code."""
    container = values.arguments[0]
    waiting = start_waiting(session, container, "not-running")
    found = session.engine.json("GET", f"/containers/{quote(container)}/json")
    state, config = found["State"], found["Config"]
    for problem, advice in (
        ("Running", "You cannot attach to a stopped container, start it first"),
        ("Paused", "You cannot attach to a paused container, unpause it first"),
        ("Restarting", "You cannot attach to a restarting container, wait until it is running"),
    ):
        if bool(state.get(problem)) != (problem == "Running"):
            raise ExitError(advice)
    tty = config["Tty"]
    stdin = not values.is_set("no-stdin") and config["OpenStdin"]
    check_tty(stdin=stdin, tty=tty)
    keys = detach_keys(session, values.text("detach-keys"))
    query: dict[str, object] = {"stream": True, "stdout": True, "stderr": True}
    if stdin:
        query["stdin"] = True
    if given := values.text("detach-keys") or session.config.text("detachKeys"):
        query["detachKeys"] = given
    signals = ContainerSignals(session, container, proxy=values.is_set("sig-proxy") and not tty, tty=tty)
    try:
        connection = session.engine.hijack(f"/containers/{quote(container)}/attach", query)
        attachment = Attachment(connection, tty=tty, stdin=stdin, keys=keys)
        if tty:
            _redraw(signals)
        if attachment.run(signals.events, signals.handle):
            raise ExitError("read escape sequence")
    finally:
        signals.close()
    return exit_status(session, waiting)


def _redraw(signals: ContainerSignals) -> None:
    """Change the terminal's size to and fro: a full-screen program draws itself for the newcomer."""
    from boxship.cli.stdio import window_size

    height, width = window_size()
    if height and width:
        signals.resize(height + 1, width + 1)
        signals.resize(height, width)


COMMANDS = {"container attach": Command("[OPTIONS] CONTAINER", run, FLAGS, least=1, most=1)}
