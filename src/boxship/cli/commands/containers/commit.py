"""``commit``: an image from a container's changes."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag
from boxship.cli.reference import parse
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("author", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', short="a"),
    Flag("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
    Flag("message", "string", "Commit message", short="m"),
    Flag("pause", "bool", "Pause container during commit", short="p", default=True, shown="(default true)"),
)


def run(session: Session, values: Values) -> int:
    """Commit the container and print the image's ID."""
    container, *name = values.arguments
    query = {"container": container}
    if name:
        try:
            reference = parse(name[0])
        except ValueError as exc:
            raise ExitError(str(exc)) from exc
        if reference.digest:
            raise ExitError("refusing to create a tag with a digest reference")
        query.update(repo=reference.name, tag=reference.tagged().tag)
    query.update(author=values.text("author"), comment=values.text("message"))
    if not values.is_set("pause"):
        query["pause"] = "0"
    pairs = [f"{key}={quote(value)}" for key, value in query.items() if value or key == "container"]
    pairs.extend(f"changes={quote(change)}" for change in values.many("change"))
    session.line(session.engine.json("POST", "/commit?" + "&".join(pairs))["Id"])
    return 0


COMMANDS = {"container commit": Command("[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", run, FLAGS, least=1, most=2)}
