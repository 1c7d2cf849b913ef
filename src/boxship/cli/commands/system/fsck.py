"""``system fsck``: what is damaged or left over on disk. With a daemon it asks that; without one it becomes the check."""

from __future__ import annotations

import os
import sys

from boxship.cli.command import Command, ExitError
from boxship.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values

MODULE = "boxship.daemon.fsck"
REPAIRED, LEFT = 1, 4  # exit codes as of fsck(8)


def run(session: Session, values: Values) -> int:
    """Print a line for each finding; the exit code says whether there were any, and whether some are left."""
    repair, quick = values.is_set("repair"), values.is_set("quick")
    if values.text("offline"):
        return _offline(values.text("offline"), repair=repair, quick=quick)
    query = {name: "1" for name, wanted in (("repair", repair), ("quick", quick)) if wanted}
    found = left = 0
    whole = False
    for message in session.engine.messages(session.engine.stream("POST", "/boxship/fsck", query)):
        if message.get("error"):
            raise ExitError(f"Error response from daemon: {message['error']}", status=8)
        if message.get("Checked"):
            whole = True
            continue
        outcome = message.get("Outcome") or ""
        found += 1
        left += not is_repaired(outcome)
        session.line(f"{message['Object']}: {message['Problem']}" + (f" [{outcome}]" if outcome else ""))
    if not whole:
        raise ExitError("the check was cut off", status=8)
    session.line(f"{found} problems found, {found - left} repaired" if found else "nothing is wrong")
    return LEFT if left else REPAIRED if found else 0


def is_repaired(outcome: str) -> bool:
    """Return whether an outcome means that nothing is left to do but by pulling again."""
    return bool(outcome) and not outcome.startswith("left")


def _offline(data_root: str, *, repair: bool, quick: bool) -> int:
    """Become the check of a data root that no daemon uses."""
    arguments = [*(["--repair"] if repair else []), *(["--quick"] if quick else []), data_root]
    try:
        os.execv(sys.executable, [sys.executable, "-m", MODULE, *arguments])
    except OSError as exc:
        raise ExitError(f"system fsck: {sys.executable}: {exc.strerror}") from exc


COMMANDS = {
    "system fsck": Command(
        "[OPTIONS]",
        run,
        (
            Flag("offline", "string", "Check this data root, which no daemon uses"),
            Flag("quick", "bool", "Believe the content of files, and read none"),
            Flag("repair", "bool", "Put right what can be put right; nothing that a running container uses is touched"),
        ),
    )
}
