"""A container or exec with this process's stdio attached: what run, start, attach and exec share."""

from __future__ import annotations

from boxship.cli.signals import FORWARDED, WINCH, SignalEvents
from boxship.cli.stdio import Pump, RawTerminal, StreamError, resizer, window_size
from boxship.client.engine import quote
from boxship.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxship.cli.command import Session
    from boxship.client.engine import BodyReader, Query
    from boxship.http.client import Stream

RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"


def detach_keys(session: Session, given: str) -> bytes:
    """Return the detach keys of the flag or of ``config.json``. Raises ExitError."""
    from boxship.cli.command import ExitError
    from boxship.wire.detachkeys import UnknownKeyError, parse

    text = given or session.config.text("detachKeys")
    try:
        return parse(text)
    except UnknownKeyError as exc:
        raise ExitError(f"invalid detach keys ({text}): {exc}") from exc


class Attachment:
    """One hijacked connection, moved by ``run`` until the output ends."""

    def __init__(self, connection: tuple[Stream, bytes, str], *, tty: bool, stdin: bool, keys: bytes) -> None:
        self._stream, self._leftover, _ = connection
        self._tty = tty
        self._stdin = stdin
        self._keys = keys if tty and stdin else b""

    def run(self, signals: SignalEvents | None, on_signal: Callable[[int], None] | None) -> bool:
        """Move bytes; return True when the user detached. Raises ClientError when the stream breaks."""
        pump = Pump(
            self._stream,
            self._leftover,
            multiplexed=not self._tty,
            stdin=self._stdin,
            detach_keys=self._keys,
            signals=signals,
            on_signal=on_signal,
        )
        try:
            with RawTerminal(wanted=self._tty and self._stdin):
                return pump.run()
        except StreamError as exc:
            raise ClientError(str(exc)) from exc
        finally:
            self._stream.close()


class ContainerSignals:
    """Hands signals on to a container while the block runs, and its terminal's size when that changes."""

    def __init__(self, session: Session, container: str, *, proxy: bool, tty: bool) -> None:
        self._session = session
        self._path = f"/containers/{quote(container)}"
        self._proxy = proxy
        self._tty = tty
        self.events = SignalEvents()
        numbers = tuple(FORWARDED) if proxy else ()
        self.events.catch((*numbers, WINCH) if tty else numbers)
        self._resized = resizer(self.resize)

    def handle(self, number: int) -> None:
        """Act on one signal."""
        if self._tty:
            self._resized(number)
        if self._proxy and number in FORWARDED:
            self._call("/kill", {"signal": FORWARDED[number]})

    def resize(self, height: int, width: int) -> None:
        """Tell the engine the terminal's size."""
        self._call("/resize", {"h": height, "w": width})

    def resize_now(self) -> None:
        """Tell the engine the size that the terminal has now."""
        height, width = window_size()
        if self._tty and (height or width):
            self.resize(height, width)

    def _call(self, verb: str, query: Query) -> None:
        try:
            self._session.engine.json("POST", self._path + verb, query)
        except ClientError:
            pass  # it ended meanwhile

    def close(self) -> None:
        """Let signals act on this process again."""
        self.events.close()


def start_waiting(session: Session, container: str, condition: str) -> BodyReader:
    """Ask for the container's end before it is started; the answer's head is here, its body comes at the end."""
    return session.engine.stream("POST", f"/containers/{quote(container)}/wait", {"condition": condition})


def exit_status(session: Session, waiting: BodyReader) -> int:
    """Return the exit code when the container has ended."""
    from boxship.client import jsontext

    answer = jsontext.loads(waiting.read())
    error = answer.get("Error") or {}
    if error.get("Message"):
        session.error(f"Error waiting for container: {error['Message']}")
        return 125
    return int(answer["StatusCode"])
