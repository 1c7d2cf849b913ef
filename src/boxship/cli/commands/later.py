"""Commands of Docker that this version of Boxship does not have: they say so instead of looking like a typing error."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values


def run(session: Session, _values: Values) -> int:
    """Say that the command is not here."""
    raise ExitError(f"{session.program}: '{session.path}' is not available in this version of Boxship")


# What follows is not looked at: it would be flags of a command that is not here.
COMMANDS = {
    name: Command(usage, run, most=None, interspersed=False) for name, usage in (("build", "[OPTIONS] PATH | URL | -"),)
}
