"""``container rm`` and ``image rm`` (``rmi``)."""

from __future__ import annotations

from boxship.cli.command import Command, each
from boxship.cli.flags import Flag
from boxship.client.engine import quote
from boxship.client.errors import ApiError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

CONTAINER_FLAGS = (
    Flag("force", "bool", "Force the removal of a running container (uses SIGKILL)", short="f"),
    Flag("link", "bool", "Remove the specified link", short="l"),
    Flag("volumes", "bool", "Remove anonymous volumes associated with the container", short="v"),
)
IMAGE_FLAGS = (
    Flag("force", "bool", "Force removal of the image", short="f"),
    Flag("no-prune", "bool", "Do not delete untagged parents"),
    Flag(
        "platform",
        "strings",
        'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    ),
)


def remove_containers(session: Session, values: Values) -> int:
    """Remove containers; with --force one that is not there is no failure."""
    force = values.is_set("force")
    query = {
        api: True
        for api, given in (("force", force), ("link", values.is_set("link")), ("v", values.is_set("volumes")))
        if given
    }
    missing_is_error = not force

    def delete(name: str) -> str | None:
        name = name.strip("/")
        try:
            session.engine.json("DELETE", f"/containers/{quote(name)}", query)
        except NotFoundError as exc:
            if missing_is_error:
                raise
            session.error(str(exc))
            return None
        return name

    return each(session, values.arguments, delete)


def remove_images(session: Session, values: Values) -> int:
    """Remove images and print what went: names that were untagged, IDs that were deleted."""
    query = [name for flag, name in (("force", "force=1"), ("no-prune", "noprune=1")) if values.is_set(flag)]
    if platforms := values.many("platform"):
        session.engine.require("1.50", "--platform")
        from boxship.cli.reference import platform_json

        query += [f"platforms={quote(platform_json(platform))}" for platform in platforms]
    suffix = f"?{'&'.join(query)}" if query else ""
    status = 0
    for name in values.arguments:
        try:
            removed = session.engine.json("DELETE", f"/images/{quote(name, '/:@')}{suffix}") or []
        except ApiError as exc:
            session.error(str(exc))
            if not (isinstance(exc, NotFoundError) and values.is_set("force")):
                status = 1
            continue
        for item in removed:
            session.line(f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item['Untagged']}")
    return status


COMMANDS = {
    "container rm": Command(
        "[OPTIONS] CONTAINER [CONTAINER...]", remove_containers, CONTAINER_FLAGS, least=1, most=None
    ),
    "image rm": Command("[OPTIONS] IMAGE [IMAGE...]", remove_images, IMAGE_FLAGS, least=1, most=None),
}
