"""Archives that commands read and write: to a file that is whole or absent, or to a pipe, never to a terminal."""

from __future__ import annotations

import os

from boxship.cli.command import STDOUT, ExitError, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxship.client.engine import BodyReader

PIECE = 1 << 18


def refuse_terminal(output: str) -> None:
    """Raise ExitError when an archive without a file would go to a terminal."""
    if not output and os.isatty(STDOUT):
        raise ExitError("cowardly refusing to save to a terminal. Use the -o flag or redirect")


def deliver(reader: BodyReader, output: str, failed: str) -> None:
    """Write the whole body to the file ``output``, or to stdout when that is empty; ``failed`` begins what errors say."""
    if output:
        save_to(reader, output, failed)
    else:
        copy(reader, STDOUT)


def save_to(reader: BodyReader, path: str, failed: str) -> None:
    """Write the whole body to ``path``, which appears only when it is complete; ``failed`` begins what errors say."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise ExitError(f"{failed}: invalid output path: stat {directory}: no such file or directory")
    if os.path.isdir(path):
        raise ExitError(f"{failed}: cannot write to a directory")
    if os.path.islink(path):
        raise ExitError(f"{failed}: cannot write to a symbolic link directly")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ExitError(f"{failed}: got a device")
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        copy(reader, descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def copy(reader: BodyReader, descriptor: int) -> None:
    """Write the whole body to a descriptor."""
    while piece := reader.read_some():
        write(descriptor, piece)


def open_source(path: str) -> int:
    """Return a descriptor of an archive to read. Raises ExitError in Docker's words."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise ExitError(f"open {path}: {(exc.strerror or '').lower()}") from exc


def pieces(descriptor: int) -> Iterator[bytes]:
    """Yield what a descriptor gives, as the body of a request."""
    while piece := os.read(descriptor, PIECE):
        yield piece
