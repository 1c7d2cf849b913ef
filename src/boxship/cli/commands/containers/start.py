"""``start``: start stopped containers, one of them attached if that is asked for."""

from __future__ import annotations

from boxship.cli.attached import Attachment, ContainerSignals, detach_keys, exit_status, start_waiting
from boxship.cli.command import Command, ExitError
from boxship.cli.commands.containers.checkpoint import check_experimental
from boxship.cli.flags import Flag
from boxship.cli.stdio import check_tty
from boxship.client.engine import quote
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("attach", "bool", "Attach STDOUT/STDERR and forward signals", short="a"),
    Flag("checkpoint", "string", "Restore from this checkpoint"),
    Flag("checkpoint-dir", "string", "Use a custom checkpoint storage directory"),
    Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
    Flag("interactive", "bool", "Attach container's STDIN", short="i"),
)


def run(session: Session, values: Values) -> int:
    """Start containers and print their names, or attach to the only one."""
    names = values.arguments
    for flag in ("checkpoint", "checkpoint-dir"):
        if values.text(flag):
            check_experimental(session, f'"--{flag}"')
    if values.is_set("attach") or values.is_set("interactive"):
        if len(names) > 1:
            raise ExitError("you cannot start and attach multiple containers at once")
        return _start_attached(session, values, names[0])
    if checkpoint := values.text("checkpoint"):
        if len(names) > 1:
            raise ExitError("you cannot restore multiple containers at once")
        session.engine.json("POST", f"/containers/{quote(names[0])}/start", _restore(values, checkpoint))
        return 0
    failed = []
    for name in names:
        try:
            session.engine.json("POST", f"/containers/{quote(name)}/start")
        except ClientError as exc:
            session.error(str(exc))
            failed.append(name)
        else:
            session.line(name)
    if failed:
        raise ExitError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(session: Session, values: Values, name: str) -> int:
    found = session.engine.json("GET", f"/containers/{quote(name)}/json")
    container, config = found["Id"], found["Config"]
    tty = config["Tty"]
    stdin = values.is_set("interactive") and config["OpenStdin"]
    check_tty(stdin=stdin, tty=tty)
    keys = detach_keys(session, values.text("detach-keys"))
    query: dict[str, object] = {"stream": True, "stdout": True, "stderr": True}
    if stdin:
        query["stdin"] = True
    if given := values.text("detach-keys") or session.config.text("detachKeys"):
        query["detachKeys"] = given
    signals = ContainerSignals(session, container, proxy=not tty, tty=tty)
    try:
        connection = session.engine.hijack(f"/containers/{container}/attach", query)
        attachment = Attachment(connection, tty=tty, stdin=stdin, keys=keys)
        removed = (found.get("HostConfig") or {}).get("AutoRemove")
        waiting = start_waiting(session, container, "removed" if removed else "next-exit")
        session.engine.json("POST", f"/containers/{container}/start", _restore(values, values.text("checkpoint")))
        signals.resize_now()
        if attachment.run(signals.events, signals.handle):
            return 0
        return exit_status(session, waiting)
    finally:
        signals.close()


def _restore(values: Values, checkpoint: str) -> dict[str, object]:
    """Return the query of a start, from a checkpoint unless that is empty."""
    if not checkpoint:
        return {}
    directory = values.text("checkpoint-dir")
    return {"checkpoint": checkpoint, **({"checkpoint-dir": directory} if directory else {})}


COMMANDS = {"container start": Command("[OPTIONS] CONTAINER [CONTAINER...]", run, FLAGS, least=1, most=None)}
