"""``build``: make an image from a Dockerfile."""

from __future__ import annotations

import os
from time import monotonic

from boxship.cli.building.context import open_context
from boxship.cli.building.query import build_query
from boxship.cli.command import STDERR, STDOUT, Command, ExitError, write
from boxship.cli.credentials import registry_config
from boxship.cli.flags import Flag, parse_bool
from boxship.cli.options.checks import check_host, check_label, check_ulimit
from boxship.cli.progress import Progress
from boxship.cli.reference import parse
from boxship.cli.units import decimal_size, parse_size, parse_swap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

_REDRAW = 0.1  # seconds between two sizes of the context on a terminal


def check_tag(text: str) -> str:
    """Return the name of an image to be made. Raises ValueError in Docker's words."""
    parse(text)
    return text


def check_progress(text: str) -> str:
    """Return how a build is shown. Raises ValueError."""
    if text not in ("auto", "plain", "tty", "quiet", "rawjson"):
        raise ValueError(f"invalid progress mode {text}")
    return text


FLAGS = (
    Flag("add-host", "list", 'Add a custom host-to-IP mapping ("host:ip")', check=check_host),
    Flag("build-arg", "list", "Set build-time variables"),
    Flag("cache-from", "strings", "Images to consider as cache sources"),
    Flag("cgroup-parent", "string", 'Set the parent cgroup for the "RUN" instructions during build'),
    Flag("compress", "bool", "Compress the build context using gzip"),
    Flag("cpu-period", "int", "Limit the CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
    Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("disable-content-trust", "bool", "Skip image verification", default=True, shown="(default true)"),
    Flag("file", "string", 'Name of the Dockerfile (Default is "PATH/Dockerfile")', short="f"),
    Flag("force-rm", "bool", "Always remove intermediate containers"),
    Flag("iidfile", "string", "Write the image ID to the file"),
    Flag("isolation", "string", "Container isolation technology"),
    Flag("label", "list", "Set metadata for an image", check=check_label),
    Flag("memory", "bytes", "Memory limit", short="m", check=parse_size),
    Flag(
        "memory-swap",
        "bytes",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
        check=parse_swap,
    ),
    Flag(
        "network",
        "string",
        "Set the networking mode for the RUN instructions during build",
        default="default",
        shown='(default "default")',
    ),
    Flag("no-cache", "bool", "Do not use cache when building the image"),
    Flag("no-cache-filter", "strings", "Do not cache specified stages"),
    Flag("platform", "string", "Set platform if server is multi-platform capable"),
    Flag(
        "progress",
        "string",
        'Set type of progress output ("auto", "plain", "tty", "quiet", "rawjson")',
        default="auto",
        shown='(default "auto")',
        check=check_progress,
    ),
    Flag("pull", "bool", "Always attempt to pull a newer version of the image"),
    Flag("quiet", "bool", "Suppress the build output and print image ID on success", short="q"),
    Flag("rm", "bool", "Remove intermediate containers after a successful build", default=True, shown="(default true)"),
    Flag("security-opt", "strings", "Security options"),
    Flag("shm-size", "bytes", 'Size of "/dev/shm"', check=parse_size),
    Flag("squash", "bool", "Squash newly built layers into a single new layer"),
    Flag("tag", "list", 'Name and optionally a tag in the "name:tag" format', short="t", check=check_tag),
    Flag("target", "string", "Set the target build stage to build."),
    Flag("ulimit", "ulimit", "Ulimit options", shown="(default [])", check=check_ulimit),
    Flag("why", "bool", "Say for each step why the cache did not have it"),
)


def run(session: Session, values: Values) -> int:
    """Send the context and show what the engine says."""
    if values.many("security-opt"):
        raise ExitError("The daemon on this platform does not support setting security options on build")
    iidfile = values.text("iidfile")
    if iidfile and os.path.lexists(iidfile):
        try:
            os.unlink(iidfile)  # an old id must not be taken for this build's
        except OSError as exc:
            raise ExitError(f"removing image ID file: {exc.strerror}") from exc
    context = open_context(values.arguments[0], values.text("file"))
    query = build_query(values, dockerfile=context.dockerfile, remote=context.remote)
    headers = {"Content-Type": "application/x-tar", "X-Registry-Config": registry_config(session)}
    body: Iterator[bytes] | bytes = b""
    if context.body is not None:
        body = _compressed(context.body) if values.is_set("compress") else context.body
    if is_classic():
        identity = _classic(session, query, headers, body, quiet=values.is_set("quiet"))
    else:
        identity = _live(session, query, headers, body, values)
    if iidfile:
        if not identity:
            raise ExitError("Cannot write image ID to file: the engine did not send one")
        with open(iidfile, "w", encoding="ascii") as file:
            file.write(identity)
    return 0


def is_classic() -> bool:
    """Return whether the user wants the output of the builder before BuildKit, with Docker's own switch."""
    text = os.environ.get("DOCKER_BUILDKIT", "")
    try:
        return bool(text) and not parse_bool(text)
    except ValueError as exc:
        raise ExitError(f"DOCKER_BUILDKIT environment variable expects boolean value: {exc}") from exc


def _classic(
    session: Session, query: str, headers: dict[str, str], body: Iterator[bytes] | bytes, *, quiet: bool
) -> str:
    if not quiet and not isinstance(body, bytes):
        body = _announced(body)
    reader = session.engine.stream("POST", f"/build?{query}", body=body, headers=headers)
    identity = _show(session.engine.messages(reader), quiet=quiet)
    if quiet:
        session.line(identity)
    return identity


def _live(session: Session, query: str, headers: dict[str, str], body: Iterator[bytes] | bytes, values: Values) -> str:
    from boxship.cli.building.watch import finish, show_nothing, watch

    mode = "quiet" if values.is_set("quiet") else values.text("progress")
    reader = session.engine.stream("POST", f"/boxship/build?{query}", body=body, headers=headers)
    if mode == "rawjson":
        for line in reader.lines():
            write(STDERR, line + b"\n")
        return ""
    events = session.engine.messages(reader)
    if mode == "quiet":
        identity = finish(show_nothing(events))
        session.line(identity)
        return identity
    live = mode == "tty" or (mode == "auto" and os.isatty(STDERR))
    return finish(watch(events, STDERR, live=live, why=values.is_set("why")))


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    from zlib import compressobj

    gzip = compressobj(wbits=31)
    for piece in pieces:
        yield gzip.compress(piece)
    yield gzip.flush()


def _announced(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pass the context on and say how much of it has gone, at the end or on a terminal all the time."""
    sent, shown, terminal = 0, monotonic(), os.isatty(STDOUT)
    for piece in pieces:
        if not piece:
            continue  # it would end the body
        sent += len(piece)
        if terminal and monotonic() - shown >= _REDRAW:
            shown = monotonic()
            write(STDOUT, _size(sent))
        yield piece
    write(STDOUT, _size(sent) + b"\r\n")


def _size(sent: int) -> bytes:
    return f"Sending build context to Docker daemon {decimal_size(sent):>8}\r".encode()


def _show(messages: Iterator[dict[str, Any]], *, quiet: bool) -> str:
    """Show what the build says, with ``quiet`` only when it fails; return the image's id, empty if none came.

    Raises ExitError with the code of the program that failed.
    """
    progress = Progress(STDOUT)
    identity, held = "", list[str]()
    for message in messages:
        aux = message.get("aux")
        detail = message.get("errorDetail") or {}
        if isinstance(aux, dict):
            identity = str(aux.get("ID") or identity)
        elif detail or message.get("error"):
            if quiet:
                write(STDERR, "".join(held).encode("utf-8", "surrogateescape"))
            text = str(detail.get("message") or message.get("error"))
            raise ExitError(text, int(detail.get("code") or 0) or 1)
        elif quiet:
            text = str(message.get("stream", ""))
            held.append(text)
            if text.startswith("sha256:"):
                identity = text.strip()
        else:
            progress.show((message,))
    return identity


COMMANDS = {"build": Command("[OPTIONS] PATH | URL | -", run, FLAGS, least=1, most=1)}
