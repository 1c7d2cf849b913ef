"""``system dial-stdio``: the far end of an ``ssh://`` host, this process's stdio joined to the engine's socket."""

from __future__ import annotations

from boxship.cli.command import Command
from boxship.cli.stdio import Pump
from boxship.client.host import dial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values


def run(session: Session, _values: Values) -> int:
    """Move bytes both ways until the engine closes, or until who asked has gone."""
    stream = dial(session.endpoint.host, session.endpoint.tls)
    Pump(stream, b"", multiplexed=False, stdin=True, watch_stdout=True).run()
    return 0


COMMANDS = {"system dial-stdio": Command("", run)}
