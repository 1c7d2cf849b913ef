"""``export``: a container's filesystem as a tar."""

from __future__ import annotations

from boxship.cli.archives import deliver, refuse_terminal
from boxship.cli.command import Command
from boxship.cli.flags import Flag
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values


def run(session: Session, values: Values) -> int:
    """Write the container's files as one tar stream."""
    output = values.text("output")
    refuse_terminal(output)
    reader = session.engine.stream("GET", f"/containers/{quote(values.arguments[0])}/export")
    deliver(reader, output, "failed to export container")
    return 0


COMMANDS = {
    "container export": Command(
        "[OPTIONS] CONTAINER",
        run,
        (Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),),
        least=1,
        most=1,
    )
}
