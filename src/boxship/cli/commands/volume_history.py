"""``volume snapshot``, ``backup``, ``snapshots``, ``restore``, ``diff``, ``clone``, ``rename``, ``forget``: what was in a volume earlier."""

from __future__ import annotations

import os

from boxship.cli.command import STDOUT, Command, ExitError, each, write
from boxship.cli.commands.transfer import save_to
from boxship.cli.flags import Flag
from boxship.cli.units import decimal_size
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

_LETTERS = {"added": "A", "changed": "C", "deleted": "D"}


def _path(volume: str, *words: str) -> str:
    return "/".join(("/boxship/volumes", *(quote(word) for word in (volume, *words))))


def snapshot(session: Session, values: Values) -> int:
    """Make a snapshot and print its name."""
    volume, *name = values.arguments
    made = session.engine.json("POST", _path(volume, "snapshots"), None, {"Name": name[0]} if name else {})
    session.line(made["Name"])
    return 0


def snapshots(session: Session, values: Values) -> int:
    """List the snapshots of a volume."""
    found = session.engine.json("GET", _path(values.arguments[0], "snapshots"))
    rows = [("SNAPSHOT", "CREATED", "SIZE")]
    rows += [(each["Name"], each["CreatedAt"].partition(".")[0], decimal_size(each["Size"], 4)) for each in found]
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(2)]
    for row in rows:
        session.line(f"{row[0]:<{widths[0]}}{row[1]:<{widths[1]}}{row[2]}")
    return 0


def restore(session: Session, values: Values) -> int:
    """Give a volume the content of a snapshot."""
    volume, name = values.arguments
    session.engine.json("POST", _path(volume, "snapshots", name, "restore"))
    session.line(volume)
    return 0


def diff(session: Session, values: Values) -> int:
    """Print what changed since a snapshot, as container diff does."""
    volume, name = values.arguments
    for change in session.engine.json("GET", _path(volume, "snapshots", name, "diff")):
        session.line(f"{_LETTERS[change['Kind']]} /{change['Path']}")
    return 0


def clone(session: Session, values: Values) -> int:
    """Make a volume with the content of another one and print its name."""
    volume, new = values.arguments
    session.line(session.engine.json("POST", _path(volume, "clone"), None, {"Name": new})["Name"])
    return 0


def rename(session: Session, values: Values) -> int:
    """Rename a volume."""
    volume, new = values.arguments
    session.engine.json("POST", _path(volume, "rename"), None, {"Name": new})
    return 0


def forget(session: Session, values: Values) -> int:
    """Remove snapshots and print their names."""
    volume, *names = values.arguments

    def delete(name: str) -> str:
        session.engine.json("DELETE", _path(volume, "snapshots", name))
        return name

    return each(session, names, delete)


def backup(session: Session, values: Values) -> int:
    """Write a snapshot as one tar stream."""
    volume, name = values.arguments
    output = values.text("output")
    if not output and os.isatty(STDOUT):
        raise ExitError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    reader = session.engine.stream("GET", _path(volume, "snapshots", name, "archive"))
    if output:
        save_to(reader, output, "failed to back up volume")
        return 0
    while piece := reader.read_some():
        write(STDOUT, piece)
    return 0


COMMANDS = {
    "volume backup": Command(
        "[OPTIONS] VOLUME SNAPSHOT",
        backup,
        (Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),),
        least=2,
        most=2,
    ),
    "volume clone": Command("VOLUME NEW", clone, least=2, most=2),
    "volume diff": Command("VOLUME SNAPSHOT", diff, least=2, most=2),
    "volume forget": Command("VOLUME SNAPSHOT [SNAPSHOT...]", forget, least=2, most=None),
    "volume rename": Command("VOLUME NEW", rename, least=2, most=2),
    "volume restore": Command("VOLUME SNAPSHOT", restore, least=2, most=2),
    "volume snapshot": Command("VOLUME [SNAPSHOT]", snapshot, least=1, most=2),
    "volume snapshots": Command("VOLUME", snapshots, least=1, most=1),
}
