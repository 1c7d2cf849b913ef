"""What a command is, and the surroundings that it runs in."""

from __future__ import annotations

import os

from boxship.cli.flags import HELP_FLAG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boxship.cli.flags import Flag, Values
    from boxship.client.config import Config, Endpoint, GlobalOptions
    from boxship.client.engine import Engine

STDIN, STDOUT, STDERR = 0, 1, 2


class ExitError(Exception):
    """Ends the command with ``status``, after ``shown`` on stdout and ``text`` on stderr unless they are empty."""

    def __init__(self, text: str = "", status: int = 1, *, shown: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.shown = shown


class Command:
    """One command: its usage line, how many arguments it takes, its flags and the function that carries it out.

    ``usage`` is what follows the verb (``[OPTIONS] CONTAINER [CONTAINER...]``), a second form on a second line. ``most`` is None for any number of
    arguments. ``run`` returns the exit status. ``interspersed`` is false where flags end at the first argument.
    ``extra`` stands below the summary in help. ``over_ssh`` takes ``ssh://HOST`` and any number of arguments instead, too.
    """

    __slots__ = ("extra", "flags", "interspersed", "least", "most", "over_ssh", "run", "synonyms", "usage")

    def __init__(
        self,
        usage: str,
        run: Callable[[Session, Values], int],
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int | None = 0,
        interspersed: bool = True,
        extra: str = "",
        synonyms: Mapping[str, str] | None = None,
        over_ssh: bool = False,
    ) -> None:
        self.usage = usage
        self.run = run
        self.flags = (*flags, HELP_FLAG)
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.extra = extra
        self.synonyms = synonyms
        self.over_ssh = over_ssh


class Session:
    """One invocation: who called (``program``, ``path`` as typed), its configuration, its engine and its output."""

    def __init__(self, program: str, path: str, options: GlobalOptions, config: Config, endpoint: Endpoint) -> None:
        self.program = program
        self.path = path  # "docker container rm"
        self.options = options
        self.config = config
        self.endpoint = endpoint
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine's client, made at first use."""
        if self._engine is None:
            from boxship import __version__
            from boxship.client.engine import Engine

            headers = self.config.document.get("HttpHeaders")
            extra = headers if isinstance(headers, dict) else {}
            self._engine = Engine(self.endpoint, f"Boxship-Client/{__version__} (linux)", extra)
        return self._engine

    def out(self, text: str) -> None:
        """Write ``text`` to stdout."""
        write(STDOUT, text.encode("utf-8", "surrogateescape"))

    def line(self, text: str = "") -> None:
        """Write a line to stdout."""
        self.out(text + "\n")

    def error(self, text: str) -> None:
        """Write a line to stderr."""
        write(STDERR, (text + "\n").encode("utf-8", "surrogateescape"))

    def confirm(self, warning: str) -> bool:
        """Ask before something is destroyed; only ``y`` or ``yes`` is a yes."""
        self.out(warning + "\nAre you sure you want to continue? [y/N] ")
        answer = b""
        while not answer.endswith(b"\n") and (piece := os.read(STDIN, 1)):
            answer += piece
        return answer.decode("utf-8", "replace").strip().lower() in ("y", "yes")


def write(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; a reader that has gone ends the program as SIGPIPE would."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BrokenPipeError:
        import _signal  # type: ignore[import-not-found]  # typeshed has only signal

        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGPIPE)


def each(session: Session, names: Sequence[str], action: Callable[[str], str | None]) -> int:
    """Do ``action`` for every name: print what it returns, or the error, and go on; the status is 1 if any failed."""
    from boxship.client.errors import ApiError

    status = 0
    for name in names:
        try:
            done = action(name)
        except ApiError as exc:
            session.error(str(exc))
            status = 1
        else:
            if done is not None:
                session.line(done)
    return status
