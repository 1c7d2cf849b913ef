"""``top``: the processes of a container."""

from __future__ import annotations

from boxship.cli.command import Command
from boxship.cli.table import align
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values


def run(session: Session, values: Values) -> int:
    """Show what ``ps`` says of the container's processes."""
    container, *options = values.arguments
    query = {"ps_args": " ".join(options)} if options else {}
    found = session.engine.json("GET", f"/containers/{quote(container)}/top", query)
    session.out(align([found["Titles"], *(found["Processes"] or [])], min_width=20))
    return 0


COMMANDS = {"container top": Command("CONTAINER [ps OPTIONS]", run, least=1, most=None, interspersed=False)}
