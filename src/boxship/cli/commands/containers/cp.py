"""``cp``: files between a container and this machine."""

from __future__ import annotations

import os
from contextlib import contextmanager

from boxship.cli import copying
from boxship.cli.command import STDIN, STDOUT, Command, ExitError, write
from boxship.cli.copying import CopyError, Side
from boxship.cli.flags import Flag
from boxship.cli.units import decimal_size
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values
    from boxship.client.engine import BodyReader
    from boxship.snapshots.tar_reader import Entry
    from boxship.snapshots.tar_writer import TarWriter

PIECE = 1 << 18
MAX_LINKS = 10
_DIRECTORY, _LINK, _DEVICE = 1 << 31, 1 << 27, 1 << 26  # Go's os.FileMode
_STAT_HEADER = "x-docker-container-path-stat"

FLAGS = (
    Flag("archive", "bool", "Archive mode (copy all uid/gid information)", short="a"),
    Flag("follow-link", "bool", "Always follow symbol link in SRC_PATH", short="L"),
    Flag(
        "quiet",
        "bool",
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
        short="q",
    ),
)
_EXTRA = (
    "Use '-' as the source to read a tar archive from stdin\n"
    "and extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\n"
    "container source to stdout."
)


class _Counted:
    """Bytes on their way, as a reader of a tar archive or as the body of a call."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.count = 0
        self._pieces = pieces
        self._rest = b""

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.count += len(piece)
            yield piece

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
            self.count += len(self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def run(session: Session, values: Values) -> int:
    """Copy from or to a container."""
    source, destination = values.arguments
    if not source:
        raise ExitError("source can not be empty")
    if not destination:
        raise ExitError("destination can not be empty")
    from_container, source_path = copying.split_argument(source)
    to_container, destination_path = copying.split_argument(destination)
    if from_container and to_container:
        raise ExitError("copying between containers is not supported")
    quiet = values.is_set("quiet") if "quiet" in values.changed else not os.isatty(STDOUT)
    try:
        if from_container:
            return _download(session, values, from_container, source_path, destination_path, quiet=quiet)
        if to_container:
            return _upload(session, values, source_path, to_container, destination_path, quiet=quiet)
    except CopyError as exc:
        raise ExitError(str(exc)) from exc
    except OSError as exc:
        raise ExitError(f"{_verb(exc)} {exc.filename}: {(exc.strerror or '').lower()}") from exc
    raise ExitError("must specify at least one container source")


def _download(session: Session, values: Values, container: str, source: str, destination: str, *, quiet: bool) -> int:
    if destination != "-":
        destination = _local(destination)
    with _destination_errors():
        _check_output(destination)
    rebased = ""
    if values.is_set("follow-link"):
        found = _stat(session, container, source)
        if found is not None and found["mode"] & _LINK:
            target = found["linkTarget"]
            if not target.startswith("/"):
                target = copying.join(copying.split_entry(source)[0], target)
            source, rebased = copying.rebase_name(source, target)
    reader = session.engine.stream("GET", f"/containers/{quote(container)}/archive", {"path": source})
    if destination == "-":
        while piece := reader.read_some():
            write(STDOUT, piece)
        return 0
    mode = _decode(reader)["mode"]
    side = Side(source, exists=True, is_directory=bool(mode & _DIRECTORY), rebase_name=rebased)
    with _destination_errors():
        target = _local_destination(destination)
    directory, rename = copying.plan(side, target)
    names = [(copying.split_entry(source)[1], rebased)] if rebased else []
    content = _Counted(iter(reader.read_some, b""))
    try:
        _extract(content, directory, [*names, *([rename] if rename else [])])
    finally:
        if not quiet:
            session.error(f"Successfully copied {decimal_size(content.count, 3)} to {destination}")
    return 0


def _upload(session: Session, values: Values, source: str, container: str, destination: str, *, quiet: bool) -> int:
    if source != "-":
        source = _local(source)
    path = destination
    found = _stat(session, container, path)
    if found is not None and found["mode"] & _LINK:
        path = found["linkTarget"]
        if not path.startswith("/"):
            path = copying.join(copying.split_entry(destination)[0], path)
        found = _stat(session, container, path)
    if found is not None and found["mode"] & _DEVICE:
        raise ExitError(f'destination "{container}:{destination}" must be a directory or a regular file: got a device')
    target = Side(path, exists=found is not None, is_directory=found is not None and bool(found["mode"] & _DIRECTORY))
    if source == "-":
        if not target.is_directory:
            raise ExitError(f'destination "{container}:{destination}" must be a directory')
        directory, content = path, _Counted(iter(lambda: os.read(STDIN, PIECE), b""))
        quiet = True  # as docker, which counts only what it packs itself
    else:
        side = _local_source(source, follow=values.is_set("follow-link"))
        directory, rename = copying.plan(side, target)
        content = _Counted(_packed(side, rename))
    query = {"path": directory, "noOverwriteDirNonDir": "true"}
    if values.is_set("archive"):
        query["copyUIDGID"] = "true"
    try:
        reader = session.engine.stream(
            "PUT",
            f"/containers/{quote(container)}/archive",
            query,
            body=iter(content),
            headers={"Content-Type": "application/x-tar"},
        )
        reader.read()
    finally:
        if not quiet:
            session.error(f"Successfully copied {decimal_size(content.count, 3)} to {container}:{path}")
    return 0


# the container's side


def _stat(session: Session, container: str, path: str) -> dict[str, Any] | None:
    """Return what is at the path; None when that can't be told, which the copy itself then explains."""
    from boxship.client.errors import ApiError

    try:
        reader = session.engine.stream("HEAD", f"/containers/{quote(container)}/archive", {"path": path})
    except ApiError:
        return None
    reader.read()
    return _decode(reader)


def _decode(reader: BodyReader) -> dict[str, Any]:
    from binascii import a2b_base64

    from boxship.client import jsontext

    try:
        found = jsontext.loads(a2b_base64(reader.headers[_STAT_HEADER]).decode())
    except (KeyError, ValueError) as exc:
        raise ExitError(f"unable to get resource stat from response: {exc}") from exc
    assert isinstance(found, dict)
    return found


# this machine's side


def _local(path: str) -> str:
    return copying.preserve_end(os.path.abspath(path), path)


def _local_source(path: str, *, follow: bool) -> Side:
    if follow:
        resolved, rebased = copying.rebase_name(path, os.path.realpath(path, strict=True))
    else:
        directory, _, name = path.rpartition("/")
        resolved = f"{os.path.realpath(directory or '/', strict=True).rstrip('/')}/{name}"
        rebased = copying.base(path) if path.endswith("/") and copying.base(path) != copying.base(resolved) else ""
    import stat

    try:
        is_directory = stat.S_ISDIR(os.lstat(resolved).st_mode)
    except NotADirectoryError:
        if path.endswith("/"):
            raise ExitError("not a directory") from None
        raise
    return Side(resolved, exists=True, is_directory=is_directory, rebase_name=rebased)


def _local_destination(path: str) -> Side:
    original = path
    for _ in range(MAX_LINKS + 2):
        if not os.path.islink(path):
            break
        path = os.path.join(copying.split_entry(path)[0], os.readlink(path))
    else:
        raise ExitError(f"too many symlinks in {original}")
    if os.path.lexists(path):
        return Side(path, exists=True, is_directory=os.path.isdir(path))
    parent = copying.split_entry(path)[0]
    if not os.path.isdir(parent):
        os.stat(parent)
        raise ExitError("not a directory")
    return Side(path, exists=False, is_directory=False)


@contextmanager
def _destination_errors() -> Iterator[None]:
    """Name the call that docker looks at a destination with."""
    try:
        yield
    except OSError as exc:
        raise ExitError(f"stat {exc.filename}: {(exc.strerror or '').lower()}") from exc


def _check_output(path: str) -> None:
    import stat

    directory = os.path.dirname(copying.clean(path))
    if directory and not os.path.exists(directory):
        raise ExitError(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        raise ExitError(f'invalid output path: "{path}" must be a directory or a regular file: got a device')


def _packed(source: Side, rename: tuple[str, str] | None) -> Iterator[bytes]:
    """Yield the archive of a local file or directory; written by a thread, since a file is more than memory holds."""
    from threading import Thread

    from boxship.snapshots.tar_writer import TarWriter

    read_fd, write_fd = os.pipe()
    failed: list[OSError] = []

    def work() -> None:
        try:
            with os.fdopen(write_fd, "wb") as out:
                _pack(TarWriter(out), source, rename)
        except BrokenPipeError:
            pass  # the engine takes no more and says why
        except OSError as exc:
            failed.append(exc)

    Thread(target=work, daemon=True).start()
    with os.fdopen(read_fd, "rb", buffering=0) as pipe:
        while piece := pipe.read(PIECE):
            yield piece
    if failed:
        raise ExitError(f"{_verb(failed[0])} {failed[0].filename}: {(failed[0].strerror or '').lower()}")


def _pack(writer: TarWriter, source: Side, rename: tuple[str, str] | None) -> None:
    from boxship.snapshots import tree

    directory, entry = copying.split_entry(source.path)

    def named(path: str) -> str:
        if source.rebase_name:
            path = copying.rebase(path, entry, source.rebase_name)
        return copying.rebase(path, *rename) if rename else path

    with tree.opened(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as parent_fd:
        writer.add_file(parent_fd, entry, named(entry), os.stat(entry, dir_fd=parent_fd, follow_symlinks=False))
        if source.is_directory:
            with tree.opened(os.open(entry, tree.DIRECTORY, dir_fd=parent_fd)) as top_fd:
                for below, fd, status in tree.walk(top_fd):
                    writer.add_file(fd, copying.base(below), named(f"{entry}/{below}"), status)
    writer.finish()


def _extract(content: _Counted, directory: str, renames: list[tuple[str, str]]) -> None:
    """Unpack below ``directory``, which nothing in the archive can leave; all files become the caller's."""
    from boxship.base.errors import BoxshipError
    from boxship.snapshots import TarReader, apply, tree

    def prepare(entry: Entry) -> None:
        for old, new in renames:
            entry.name = copying.rebase(entry.name, old, new)
            if entry.type == b"1":
                entry.linkname = copying.rebase(entry.linkname, old, new)
        entry.uid = entry.gid = 0  # "no chown" to the unpacker

    with tree.opened(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root_fd:
        reader = TarReader(content)
        try:
            apply.unpack(reader, root_fd, keep_kinds=True, prepare=prepare)
            reader.finish()
        except BoxshipError as exc:
            raise ExitError(str(exc)) from exc


def _verb(exc: OSError) -> str:
    """Return the call that Docker's messages begin with."""
    return "open" if isinstance(exc, PermissionError) else "lstat"


COMMANDS = {
    "container cp": Command(
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        run,
        FLAGS,
        least=2,
        most=2,
        extra=_EXTRA,
    )
}
