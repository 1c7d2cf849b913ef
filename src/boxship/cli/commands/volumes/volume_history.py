"""What was in a volume earlier and what comes and goes as a tar: ``volume snapshot``, ``restore``, ``import``, ``update`` and others."""

from __future__ import annotations

from boxship.cli.archives import deliver, open_source, pieces, refuse_terminal
from boxship.cli.command import STDIN, Command, ExitError, each
from boxship.cli.flags import Flag
from boxship.cli.options.checks import check_label
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
    refuse_terminal(output)
    reader = session.engine.stream("GET", _path(volume, "snapshots", name, "archive"))
    deliver(reader, output, "failed to back up volume")
    return 0


def export(session: Session, values: Values) -> int:
    """Write what is in a volume now as one tar stream."""
    output = values.text("output")
    refuse_terminal(output)
    reader = session.engine.stream("GET", _path(values.arguments[0], "archive"))
    deliver(reader, output, "failed to export volume")
    return 0


def load(session: Session, values: Values) -> int:
    """Make a volume of a tar and print its name."""
    volume, *source = values.arguments
    descriptor = open_source(source[0]) if source and source[0] != "-" else STDIN
    headers = {"Content-Type": "application/x-tar"}
    session.engine.stream("PUT", _path(volume, "archive"), body=pieces(descriptor), headers=headers).read()
    session.line(volume)
    return 0


def update(session: Session, values: Values) -> int:
    """Change size and labels of a volume; docker's own flag is for volumes of a cluster only."""
    from boxship.cli.options.document import pairs

    if not values.arguments:
        raise ExitError("invalid argument: a volume is needed")
    volume = values.arguments[0]
    change = {
        "Size": values.text("size"),
        "AddLabels": pairs(values.many("label-add")),
        "RemoveLabels": values.many("label-rm"),
    }
    if "availability" in values.changed or not any(change.values()):
        session.engine.json("GET", f"/volumes/{quote(volume)}")
        raise ExitError("can only update cluster volumes")
    session.engine.json("POST", _path(volume, "update"), None, {key: value for key, value in change.items() if value})
    session.line(volume)
    return 0


UPDATE_FLAGS = (
    Flag(
        "availability",
        "string",
        'Cluster Volume availability ("active", "pause", "drain")',
        default="active",
        shown='(default "active")',
    ),
    Flag("label-add", "list", "Add or replace a label", check=check_label),
    Flag("label-rm", "list", "Remove a label by key"),
    Flag("size", "string", "How much the volume may hold (e.g. 10g)"),
)

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
    "volume export": Command(
        "[OPTIONS] VOLUME",
        export,
        (Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),),
        least=1,
        most=1,
    ),
    "volume import": Command("VOLUME [FILE|-]", load, least=1, most=2),
    "volume update": Command("[OPTIONS] [VOLUME]", update, UPDATE_FLAGS, most=1),
    "volume forget": Command("VOLUME SNAPSHOT [SNAPSHOT...]", forget, least=2, most=None),
    "volume rename": Command("VOLUME NEW", rename, least=2, most=2),
    "volume restore": Command("VOLUME SNAPSHOT", restore, least=2, most=2),
    "volume snapshot": Command("VOLUME [SNAPSHOT]", snapshot, least=1, most=2),
    "volume snapshots": Command("VOLUME", snapshots, least=1, most=1),
}
