"""``diff``: what a container changed in its filesystem."""

from __future__ import annotations

from boxship.cli.command import Command
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

LETTERS = ("C", "A", "D")  # changed, added, deleted: the API's numbers


def run(session: Session, values: Values) -> int:
    """List changed paths."""
    changes = session.engine.json("GET", f"/containers/{quote(values.arguments[0])}/changes") or []
    session.out("".join(f"{LETTERS[change['Kind']]} {change['Path']}\n" for change in changes))
    return 0


COMMANDS = {"container diff": Command("CONTAINER", run, least=1, most=1)}
