"""What the argument of ``build`` stands for: a directory, an archive or a Dockerfile on stdin, or a place that the engine fetches.

Errors are Docker's.
"""

from __future__ import annotations

import os
import stat

from boxship.cli.command import STDIN, ExitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boxship.spec.docker.ignorefile import Patterns

DOCKERFILE = "Dockerfile"
IGNORE = ".dockerignore"
_NONE: Mapping[str, str] = {}
_MAGIC = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_PIECE = 1 << 18
_REMOTE = ("http://", "https://", "git://", "github.com/", "git@")


class Context:
    """Where the files come from: ``body`` for the engine, or a ``remote`` that it fetches itself.

    ``dockerfile`` is the file's name inside the context.
    """

    __slots__ = ("body", "dockerfile", "remote")

    def __init__(self, *, body: Iterator[bytes] | None = None, remote: str = "", dockerfile: str = "") -> None:
        self.body = body
        self.remote = remote
        self.dockerfile = dockerfile


def open_context(
    argument: str, file: str, others: Mapping[str, str] = _NONE, caches: Mapping[str, str] = _NONE
) -> Context:
    """Return the context that ``argument`` and ``--file`` mean. Raises ExitError.

    ``others`` and ``caches`` are further directories that travel along, by the name that they have in the archive.
    """
    if others and not os.path.isdir(argument):
        raise ExitError("--build-context with a directory needs a directory as PATH")
    if caches and not os.path.isdir(argument):
        raise ExitError("--cache-from type=local needs a directory as PATH")
    if argument == "-":
        if file == "-":
            raise ExitError("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stdin(file)
    if is_remote(argument) and not os.path.isdir(argument):
        return Context(remote=argument, dockerfile=file)
    if os.path.isdir(argument):
        return _from_directory(argument, file, others, caches)
    if os.path.lexists(argument):
        raise ExitError(f"unable to prepare context: context must be a directory: {os.path.abspath(argument)}")
    raise ExitError(f'unable to prepare context: path "{argument}" not found')


def is_remote(argument: str) -> bool:
    """Return whether the argument names something to be fetched: a URL or a repository."""
    return argument.startswith(_REMOTE)


def _from_stdin(file: str) -> Context:
    head = b""
    while len(head) < 512 and (piece := os.read(STDIN, 512 - len(head))):
        head += piece
    if head.startswith(_MAGIC) or _is_tar(head):
        return Context(body=_rest(head), dockerfile=file)
    text = head + b"".join(_rest(b""))
    if not text.strip():
        raise ExitError("the Dockerfile (Dockerfile) cannot be empty")
    from boxship.cli.building.packing import pack_files

    return Context(body=iter((pack_files({DOCKERFILE: text}),)), dockerfile=DOCKERFILE)


def _rest(head: bytes) -> Iterator[bytes]:
    if head:
        yield head
    while piece := os.read(STDIN, _PIECE):
        yield piece


def _is_tar(head: bytes) -> bool:
    """Return whether a block is the header of a tar archive: its checksum says so."""
    if len(head) < 512:
        return False
    try:
        stored = int(head[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return stored == sum(head[:148]) + 8 * 32 + sum(head[156:512])


def _from_directory(path: str, file: str, others: Mapping[str, str], caches: Mapping[str, str]) -> Context:
    from boxship.cli.building.packing import Part, pack

    root = os.path.realpath(path)
    added: dict[str, bytes] = {}
    if file == "-":
        name, beside = _alias(), ""
        added[name] = b"".join(_rest(b""))
    else:
        name, outside = _dockerfile(root, file)
        if outside:
            added[name] = outside
        beside = (os.path.realpath(file) if outside else os.path.join(root, name)) + ".dockerignore"
    parts = [Part(root, _ignored((beside, os.path.join(root, IGNORE)), (name, IGNORE)))]
    for prefix, other in others.items():
        parts.append(Part(other, _ignored((os.path.join(other, IGNORE),)), f"{prefix}/"))
    if caches:
        from boxship.cli.building.caches import part_of

        parts += [part_of(other, prefix) for prefix, other in caches.items()]
    return Context(body=pack(parts, added), dockerfile=name)


def _dockerfile(root: str, file: str) -> tuple[str, bytes]:
    """Return the Dockerfile's name inside the context, and its text if it lies outside. Raises ExitError.

    A relative ``--file`` is looked for from the working directory, not from the context.
    """
    given = os.path.abspath(file) if file else os.path.join(root, DOCKERFILE)
    if not file and not os.path.lexists(given) and os.path.lexists(os.path.join(root, DOCKERFILE.lower())):
        given = os.path.join(root, DOCKERFILE.lower())
    # Only the directory is resolved: the Dockerfile itself may be a link inside the context.
    found = os.path.join(os.path.realpath(os.path.dirname(given)), os.path.basename(given))
    try:
        mode = os.stat(found).st_mode
    except OSError as exc:
        reason = (exc.strerror or "").lower()
        raise ExitError(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {found}: {reason}"
        ) from exc
    relative = os.path.relpath(found, root)
    if not relative.startswith("../"):
        return relative, b""
    if not stat.S_ISREG(mode):
        raise ExitError(f"unable to prepare context: the Dockerfile ({file}) is not a regular file")
    with open(found, "rb") as opened:
        return _alias(), opened.read()


def _alias() -> str:
    """Return a name that no file of a context has."""
    return f".dockerfile.{os.urandom(10).hex()}"


def _ignored(lists: Sequence[str], kept: Sequence[str] = ()) -> Patterns | None:
    """Return what the first of ``lists`` that there is leaves out; ``kept`` always go along. Raises ExitError."""
    from boxship.spec.docker.ignorefile import Patterns

    for path in lists:
        try:
            with open(path, "rb") as file:
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        exceptions = "".join(f"\n!{name}" for name in kept)
        try:
            return Patterns.parse(text + f"{exceptions}\n".encode("utf-8", "surrogateescape"))
        except ValueError as exc:
            raise ExitError(f"error checking context: '{exc}'") from exc
    return None
