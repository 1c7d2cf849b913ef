"""``image sbom``: which packages an image holds, as an SPDX document."""

from __future__ import annotations

import os

from boxship.cli.command import STDOUT, Command, write
from boxship.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

FLAGS = (
    Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),
    Flag("scan", "bool", "Look at the image's files even if a document is attached to the image"),
)


def run(session: Session, values: Values) -> int:
    """Print the document that is attached to the image, or one of what is found in it."""
    from boxship.client.engine import quote

    query: dict[str, object] = {"scan": "1"} if values.is_set("scan") else {}
    path = f"/boxship/images/{quote(values.arguments[0], '/:@')}/sbom"
    reader = session.engine.stream("GET", path, query)
    if values.text("output"):
        from boxship.cli.archives import save_to

        save_to(reader, values.text("output"), f"failed to write {values.text('output')}")
        return 0
    last = b""
    while piece := reader.read_some():
        write(STDOUT, piece)
        last = piece
    if os.isatty(STDOUT) and not last.endswith(b"\n"):
        write(STDOUT, b"\n")
    return 0


COMMANDS = {"image sbom": Command("[OPTIONS] IMAGE", run, FLAGS, least=1, most=1)}
