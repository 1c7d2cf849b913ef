"""``--output``: where the result of a build goes beside the engine's images. Errors are Docker's.

-o DIR, type=local,dest=DIR      the files, into a directory
-o -, type=tar[,dest=FILE]       the files as a tar
type=oci|docker[,dest=FILE]      the image as an archive of ``save``, which is both; docker without dest: the engine alone
type=image[,name=NAMES][,push=true], type=registry    the engine alone; with push, then a registry
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from boxship.cli import csvfields
from boxship.cli.command import STDERR, STDOUT, ExitError, write
from boxship.cli.flags import parse_bool
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxship.cli.command import Session
    from boxship.client.engine import BodyReader
    from boxship.snapshots.tar_reader import Entry

_FIELDS = {
    "local": ("dest",),
    "tar": ("dest",),
    "oci": ("dest", "tar", "name"),
    "docker": ("dest", "name"),
    "image": ("name", "push"),
    "registry": ("name", "push"),
}


class Output:
    """One destination. ``dest`` is "-" for stdout, "" for none; ``names`` are for the image."""

    __slots__ = ("dest", "kind", "names", "push")

    def __init__(self, kind: str, dest: str, names: Sequence[str] = (), *, push: bool = False) -> None:
        self.kind = kind
        self.dest = dest
        self.names = list(names)
        self.push = push

    @property
    def writes(self) -> bool:
        """Whether something is to be written here."""
        return bool(self.dest)


def parse_outputs(items: Sequence[str]) -> list[Output]:
    """Return what ``--output`` asks for, looked at as far as it can be before the build. Raises ExitError."""
    found = [_output(item) for item in items]
    for each in found:
        _check(each)
    if sum(each.dest == "-" for each in found) > 1:
        raise ExitError("only one output can be written to stdout")
    return found


def write_output(session: Session, output: Output, image: str, names: Sequence[str]) -> None:
    """Fetch the result from the engine and write it where ``output`` says. ``names`` are those of the image.

    Raises ExitError, ClientError.
    """
    if output.kind in ("oci", "docker"):
        wanted = "&".join(f"names={quote(name)}" for name in names or (image,))
        reader = session.engine.stream("GET", f"/images/get?{wanted}")
    else:
        reader = session.engine.stream("GET", "/boxship/build/files", {"image": image})
    if output.kind == "local":
        unpack(reader, output.dest)
    elif output.dest == "-":
        while piece := reader.read_some():
            write(STDOUT, piece)
    else:
        from boxship.cli.archives import save_to

        save_to(reader, output.dest, f"failed to write {output.dest}")


def push(session: Session, names: Sequence[str]) -> None:
    """Push the image under each of its names. Raises ExitError, ClientError."""
    from boxship.cli.credentials import registry_auth
    from boxship.cli.progress import Progress
    from boxship.cli.reference import parse

    for name in names:
        reference = parse(name)
        headers = {"X-Registry-Auth": registry_auth(session, reference.domain)}
        query: dict[str, object] = {"tag": reference.tag or "latest"}
        reader = session.engine.stream("POST", f"/images/{reference.name}/push", query, headers=headers)
        Progress(STDERR).show(session.engine.messages(reader))


def unpack(reader: BodyReader, directory: str) -> None:
    """Unpack into ``directory``, which is made if need be and which nothing in the archive can leave.

    What is there stays unless the archive has a file of its name; all files become the caller's.
    """
    from boxship.base.errors import BoxshipError
    from boxship.snapshots import TarReader, apply, tree

    def prepare(entry: Entry) -> None:
        entry.uid = entry.gid = 0  # "no chown" to the unpacker

    with _destination(directory):
        os.makedirs(directory, exist_ok=True)
        with tree.opened(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root_fd:
            tar = TarReader(_Pieces(reader))
            try:
                apply.unpack(tar, root_fd, keep_kinds=True, prepare=prepare)
                tar.finish()
            except BoxshipError as exc:
                raise ExitError(str(exc)) from exc


def _output(item: str) -> Output:
    try:
        parts = csvfields.split(item)
    except ValueError as exc:
        raise ExitError(f"failed to parse output: {exc}") from exc
    if len(parts) == 1 and not item.startswith("type="):
        return Output("tar" if item == "-" else "local", item)
    fields: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise ExitError(f"invalid value {part}")
        fields[key.strip().lower()] = value
    kind = fields.pop("type", "")
    if not kind:
        raise ExitError("type is required for output")
    if kind not in _FIELDS:
        raise ExitError(f"unsupported output type {kind}: there are local, tar, oci, docker, image and registry")
    for key in fields:
        if key not in _FIELDS[kind]:
            raise ExitError(f"--output type={kind}: {key} is not supported")
    if kind == "oci" and not _is_true(fields.get("tar", "true")):
        raise ExitError("--output type=oci: a directory (tar=false) is not supported")
    dest = fields.get("dest", "")
    if not dest and kind in ("tar", "oci"):
        dest = "-"
    names = [name for name in fields.get("name", "").split(",") if name]
    return Output(kind, dest, names, push=kind == "registry" or _is_true(fields.get("push", "false")))


def _is_true(text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError as exc:
        raise ExitError(f"invalid value in --output: {exc}") from exc


def _check(output: Output) -> None:
    if output.kind == "local":
        if not output.dest:
            raise ExitError("dest is required for local exporter")
        if output.dest == "-":
            raise ExitError("dest cannot be stdout for local exporter")
        if os.path.lexists(output.dest) and not os.path.isdir(output.dest):
            raise ExitError(f'destination directory "{output.dest}" is a file')
    elif output.dest == "-":
        if os.isatty(STDOUT):
            raise ExitError(f"dest file is required for {output.kind} exporter. refusing to write to console")
    elif os.path.isdir(output.dest):
        raise ExitError(f'destination file "{output.dest}" is a directory')


@contextmanager
def _destination(directory: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ExitError(f"failed to write {exc.filename or directory}: {(exc.strerror or '').lower()}") from exc


class _Pieces:
    """A body as a reader of bytes."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        data = self._rest or self._reader.read_some()
        self._rest = data[size:]
        return data[:size]
