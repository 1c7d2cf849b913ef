"""``checkpoint create``, ``ls`` and ``rm``; ``start`` has the way back."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag
from boxship.cli.table import Listing
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

DIRECTORY = Flag("checkpoint-dir", "string", "Use a custom checkpoint storage directory")
CREATE_FLAGS = (DIRECTORY, Flag("leave-running", "bool", "Leave the container running after checkpoint"))
LISTING = Listing(
    "*formatter.checkpointContext",
    {"Name": ("CHECKPOINT NAME", lambda checkpoint: checkpoint["Name"])},
    ("Name",),
    id_field="Name",
)


def create(session: Session, values: Values) -> int:
    """Save a running container and print the checkpoint's name."""
    check_experimental(session, session.path)
    container, name = values.arguments
    document = {
        "CheckpointID": name,
        "CheckpointDir": values.text("checkpoint-dir"),
        "Exit": not values.is_set("leave-running"),
    }
    session.engine.json("POST", f"/containers/{quote(container)}/checkpoints", None, document)
    session.line(name)
    return 0


def ls(session: Session, values: Values) -> int:
    """List the checkpoints of a container."""
    check_experimental(session, session.path)
    path = f"/containers/{quote(values.arguments[0])}/checkpoints"
    found = session.engine.json("GET", path, _query(values)) or []
    LISTING.show(session, found, "")
    return 0


def remove(session: Session, values: Values) -> int:
    """Remove a checkpoint."""
    check_experimental(session, session.path)
    container, name = values.arguments
    session.engine.json("DELETE", f"/containers/{quote(container)}/checkpoints/{quote(name)}", _query(values))
    return 0


def check_experimental(session: Session, feature: str) -> None:
    """Raise ExitError unless the engine has its experimental features on; ``feature`` is the command or the flag."""
    if session.engine.ping().get("docker-experimental") != "true":
        raise ExitError(f"{feature} is only supported on a Docker daemon with experimental features enabled")


def _query(values: Values) -> dict[str, object]:
    directory = values.text("checkpoint-dir")
    return {"dir": directory} if directory else {}


COMMANDS = {
    "checkpoint create": Command("[OPTIONS] CONTAINER CHECKPOINT", create, CREATE_FLAGS, least=2, most=2),
    "checkpoint ls": Command("[OPTIONS] CONTAINER", ls, (DIRECTORY,), least=1, most=1),
    "checkpoint rm": Command("[OPTIONS] CONTAINER CHECKPOINT", remove, (DIRECTORY,), least=2, most=2),
}
