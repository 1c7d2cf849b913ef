"""``image import``, ``load`` and ``save``: images as tar streams."""

from __future__ import annotations

import os

from boxship.cli.archives import copy, deliver, open_source, pieces, refuse_terminal
from boxship.cli.command import STDIN, STDOUT, Command, ExitError
from boxship.cli.flags import Flag
from boxship.cli.progress import Progress
from boxship.cli.reference import parse, platform_json
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

_PLATFORM = 'only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'

IMPORT_FLAGS = (
    Flag("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
    Flag("message", "string", "Set commit message for imported image", short="m"),
    Flag("platform", "string", "Set platform if server is multi-platform capable"),
)
LOAD_FLAGS = (
    Flag("input", "string", "Read from tar archive file, instead of STDIN", short="i"),
    Flag("platform", "string", f"Load {_PLATFORM}"),
    Flag("quiet", "bool", "Suppress the load output", short="q"),
)
SAVE_FLAGS = (
    Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),
    Flag("platform", "string", f"Save {_PLATFORM}"),
)


def import_image(session: Session, values: Values) -> int:
    """Make an image from a tar of a root filesystem: a file, a URL that the engine fetches, or stdin."""
    source, *name = values.arguments
    if name:
        try:
            parse(name[0])
        except ValueError as exc:
            raise ExitError(str(exc)) from exc
    url = "://" in source
    query: dict[str, object] = {"fromSrc": source if url else "-", "repo": name[0] if name else ""}
    if values.text("message"):
        query["message"] = values.text("message")
    if values.text("platform"):
        query["platform"] = values.text("platform").lower()
    target = _with_changes(query, values.many("change"))
    if url:
        reader = session.engine.stream("POST", target)
    else:
        descriptor = STDIN if source == "-" else open_source(source)
        reader = session.engine.stream("POST", target, body=pieces(descriptor), headers={"Content-Type": "text/plain"})
    Progress(STDOUT).show(session.engine.messages(reader))
    return 0


def _with_changes(query: dict[str, object], changes: list[str]) -> str:
    """Return the call's path with its query: ``changes`` repeats, which a mapping cannot say."""
    pairs = [f"{name}={quote(str(value))}" for name, value in query.items()]
    pairs.extend(f"changes={quote(change)}" for change in changes)
    return "/images/create?" + "&".join(pairs)


def load(session: Session, values: Values) -> int:
    """Load images from an archive of ``save``."""
    path = values.text("input")
    if not path and os.isatty(STDIN):
        raise ExitError("requested load from stdin, but stdin is empty")
    quiet = values.is_set("quiet") or not os.isatty(STDOUT)
    query: dict[str, object] = {"quiet": quiet}
    if values.text("platform"):
        session.engine.require("1.48", "--platform")
        query["platform"] = platform_json(values.text("platform"))
    descriptor = open_source(path) if path else STDIN
    reader = session.engine.stream(
        "POST", "/images/load", query, body=pieces(descriptor), headers={"Content-Type": "application/x-tar"}
    )
    if reader.headers.get("content-type", "").startswith("application/json"):
        Progress(STDOUT).show(session.engine.messages(reader))
    else:
        copy(reader, STDOUT)
    return 0


def save(session: Session, values: Values) -> int:
    """Write images as one archive."""
    output = values.text("output")
    refuse_terminal(output)
    query = "&".join(f"names={quote(name)}" for name in values.arguments)
    if values.text("platform"):
        session.engine.require("1.48", "--platform")
        query += f"&platform={quote(platform_json(values.text('platform')))}"
    reader = session.engine.stream("GET", f"/images/get?{query}")
    deliver(reader, output, "failed to save image")
    return 0


COMMANDS = {
    "image import": Command("[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", import_image, IMPORT_FLAGS, least=1, most=None),
    "image load": Command("[OPTIONS]", load, LOAD_FLAGS),
    "image save": Command("[OPTIONS] IMAGE [IMAGE...]", save, SAVE_FLAGS, least=1, most=None),
}
