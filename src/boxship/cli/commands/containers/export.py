"""``export``: a container's filesystem as a tar."""

from __future__ import annotations

import os

from boxship.cli.command import STDOUT, Command, ExitError, write
from boxship.cli.commands.images.transfer import save_to
from boxship.cli.flags import Flag
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values


def run(session: Session, values: Values) -> int:
    """Write the container's files as one tar stream."""
    output = values.text("output")
    if not output and os.isatty(STDOUT):
        raise ExitError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    reader = session.engine.stream("GET", f"/containers/{quote(values.arguments[0])}/export")
    if output:
        save_to(reader, output, "failed to export container")
        return 0
    while piece := reader.read_some():
        write(STDOUT, piece)
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
