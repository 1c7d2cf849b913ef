"""``image import``, ``load`` and ``save``: images as tar streams."""

from __future__ import annotations

import os

from boxship.cli.command import STDIN, STDOUT, Command, ExitError, write
from boxship.cli.flags import Flag
from boxship.cli.progress import Progress
from boxship.cli.reference import parse, platform_json
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxship.cli.command import Session
    from boxship.cli.flags import Values
    from boxship.client.engine import BodyReader

PIECE = 1 << 18
_PLATFORM = 'only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'

IMPORT_FLAGS = (
    Flag("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
    Flag("message", "string", "Set commit message for imported image", short="m"),
    Flag("platform", "string", "Set platform if server is multi-platform capable"),
)
LOAD_FLAGS = (
    Flag("input", "string", "Read from tar archive file, instead of STDIN", short="i"),
    Flag("platform", "string", f"Load {_PLATFORM}"),
    Flag("quiet", "bool", "Suppress the load output", short="q"),
)
SAVE_FLAGS = (
    Flag("output", "string", "Write to a file, instead of STDOUT", short="o"),
    Flag("platform", "string", f"Save {_PLATFORM}"),
)


def import_image(session: Session, values: Values) -> int:
    """Make an image from a tar of a root filesystem: a file, a URL that the engine fetches, or stdin."""
    source, *name = values.arguments
    if name:
        try:
            parse(name[0])
        except ValueError as exc:
            raise ExitError(str(exc)) from exc
    url = "://" in source
    query: dict[str, object] = {"fromSrc": source if url else "-", "repo": name[0] if name else ""}
    if values.text("message"):
        query["message"] = values.text("message")
    if values.text("platform"):
        query["platform"] = values.text("platform").lower()
    target = _with_changes(query, values.many("change"))
    if url:
        reader = session.engine.stream("POST", target)
    else:
        descriptor = STDIN if source == "-" else open_source(source)
        reader = session.engine.stream("POST", target, body=pieces(descriptor), headers={"Content-Type": "text/plain"})
    Progress(STDOUT).show(session.engine.messages(reader))
    return 0


def _with_changes(query: dict[str, object], changes: list[str]) -> str:
    """Return the call's path with its query: ``changes`` repeats, which a mapping cannot say."""
    pairs = [f"{name}={quote(str(value))}" for name, value in query.items()]
    pairs.extend(f"changes={quote(change)}" for change in changes)
    return "/images/create?" + "&".join(pairs)


def load(session: Session, values: Values) -> int:
    """Load images from an archive of ``save``."""
    path = values.text("input")
    if not path and os.isatty(STDIN):
        raise ExitError("requested load from stdin, but stdin is empty")
    quiet = values.is_set("quiet") or not os.isatty(STDOUT)
    query: dict[str, object] = {"quiet": quiet}
    if values.text("platform"):
        session.engine.require("1.48", "--platform")
        query["platform"] = platform_json(values.text("platform"))
    descriptor = open_source(path) if path else STDIN
    reader = session.engine.stream(
        "POST", "/images/load", query, body=pieces(descriptor), headers={"Content-Type": "application/x-tar"}
    )
    if reader.headers.get("content-type", "").startswith("application/json"):
        Progress(STDOUT).show(session.engine.messages(reader))
    else:
        _copy(reader, STDOUT)
    return 0


def save(session: Session, values: Values) -> int:
    """Write images as one archive."""
    output = values.text("output")
    if not output and os.isatty(STDOUT):
        raise ExitError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    query = "&".join(f"names={quote(name)}" for name in values.arguments)
    if values.text("platform"):
        session.engine.require("1.48", "--platform")
        query += f"&platform={quote(platform_json(values.text('platform')))}"
    reader = session.engine.stream("GET", f"/images/get?{query}")
    if not output:
        _copy(reader, STDOUT)
        return 0
    save_to(reader, output, "failed to save image")
    return 0


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
        _copy(reader, descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def _copy(reader: BodyReader, descriptor: int) -> None:
    while piece := reader.read_some():
        write(descriptor, piece)


def open_source(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise ExitError(f"open {path}: {(exc.strerror or '').lower()}") from exc


def pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, PIECE):
        yield piece


COMMANDS = {
    "image import": Command("[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", import_image, IMPORT_FLAGS, least=1, most=None),
    "image load": Command("[OPTIONS]", load, LOAD_FLAGS),
    "image save": Command("[OPTIONS] IMAGE [IMAGE...]", save, SAVE_FLAGS, least=1, most=None),
}
