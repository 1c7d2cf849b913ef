"""``image tag``: give an image one more name."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError
from boxship.cli.reference import parse
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values


def run(session: Session, values: Values) -> int:
    """Tag SOURCE_IMAGE as TARGET_IMAGE."""
    source, target = values.arguments
    try:
        reference = parse(target)
    except ValueError as exc:
        raise ExitError(f'Error parsing reference: "{target}" is not a valid repository/tag: {exc}') from exc
    if reference.digest:
        raise ExitError("refusing to create a tag with a digest reference")
    query = {"repo": reference.name, "tag": reference.tagged().tag}
    session.engine.json("POST", f"/images/{quote(source, '/:@')}/tag", query)
    return 0


COMMANDS = {"image tag": Command("SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", run, least=2, most=2)}
