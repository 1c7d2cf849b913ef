"""``build``: make an image from a Dockerfile."""

from __future__ import annotations

import os
from itertools import chain
from time import monotonic

from boxship.cli.building.caches import parse_exports, parse_imports
from boxship.cli.building.calls import parse_call
from boxship.cli.building.context import open_context
from boxship.cli.building.flags import FLAGS
from boxship.cli.building.outputs import Output, parse_outputs, push, write_output
from boxship.cli.building.places import in_archive, named_contexts
from boxship.cli.building.query import build_query
from boxship.cli.building.secrets import HEADER, agents, secrets_document
from boxship.cli.command import STDERR, STDOUT, Command, ExitError, write
from boxship.cli.credentials import registry_config
from boxship.cli.flags import parse_bool
from boxship.cli.progress import Progress
from boxship.cli.units import decimal_size
from boxship.client import jsontext
from boxship.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from boxship.cli.building.debugging import Debugger
    from boxship.cli.command import Session
    from boxship.cli.flags import Values
    from boxship.client.engine import BodyReader

_REDRAW = 0.1  # seconds between two sizes of the context on a terminal


def run(session: Session, values: Values) -> int:
    """Send the context, show what the engine says, and put the result where it is wanted."""
    if values.many("security-opt"):
        raise ExitError("The daemon on this platform does not support setting security options on build")
    method, form = parse_call("check" if values.is_set("check") else values.text("call"))
    only_check = method != "build"
    outputs = [Output("registry", "", push=True)] if values.is_set("push") else []
    outputs += parse_outputs(values.many("output"))
    classic = is_classic()
    if parse_exports(values.many("cache-to"))[0] and classic:
        raise ExitError("--cache-to needs the output of BuildKit: set DOCKER_BUILDKIT=1")
    if classic and (only_check or outputs):
        raise ExitError("--check, --output and --push need the output of BuildKit: set DOCKER_BUILDKIT=1")
    if any(each.push for each in outputs) and not values.many("tag") and not any(each.names for each in outputs):
        raise ExitError("tag is needed when pushing to registry")
    iidfile = values.text("iidfile")
    if iidfile and os.path.lexists(iidfile):
        try:
            os.unlink(iidfile)  # an old id must not be taken for this build's
        except OSError as exc:
            raise ExitError(f"removing image ID file: {exc.strerror}") from exc
    names = [name for each in outputs for name in each.names]
    with agents(values.many("ssh")) as ssh:
        begun = False
        while True:
            debugger = _debugger(session, values, is_wanted=not classic and not only_check)
            request = build_request(session, values, names, ssh, announced=classic and not values.is_set("quiet"))
            if only_check:
                return _call(session, *request, method, form)
            if classic:
                identity = _classic(session, *request, quiet=values.is_set("quiet"))
                named = values.many("tag")
            else:
                to_stdout = any(each.dest == "-" for each in outputs)
                try:
                    identity, named = _live(session, *request, values, debugger, to_stdout=to_stdout)
                except ApiError as exc:
                    if begun and debugger is not None and debugger.asks_again(exc):
                        continue
                    raise
            if debugger is None or not debugger.rebuild:
                break
            begun = True
    if iidfile or outputs or values.text("metadata-file"):
        _finish(session, values, outputs, identity, named)
    return 0


def _debugger(session: Session, values: Values, *, is_wanted: bool) -> Debugger | None:
    """Return who opens shells in failed steps, if that is wanted. Raises ExitError where it cannot be."""
    if not values.is_set("debug"):
        return None
    if not is_wanted or values.is_set("quiet") or values.text("progress") in ("quiet", "rawjson"):
        raise ExitError("--debug needs the output of a build: --progress auto, tty or plain")
    from boxship.cli.building.debugging import Debugger

    return Debugger(session, can_rebuild="-" not in (values.arguments[0], values.text("file")))


def _write_cache(session: Session, values: Values, ready: dict[str, Any]) -> None:
    """Write a cache that the engine has ready into the directory of its ``--cache-to``."""
    from boxship.cli.building.caches import write_cache

    exports, directories = parse_exports(values.many("cache-to"))
    number = int(ready["export"])
    export = exports[number]
    try:
        write_cache(session, ready, export, directories[number])
    except ExitError as exc:
        if not export.get("ignore-error"):
            raise
        write(STDERR, f"WARN: cache export: {exc}\n".encode("utf-8", "surrogateescape"))


def build_request(
    session: Session, values: Values, names: list[str], ssh: dict[str, str], *, announced: bool
) -> tuple[str, dict[str, str], Iterator[bytes] | bytes]:
    """Return query, headers and body of the build, from files as they are now.

    ``names`` are more names for the image, ``ssh`` sockets of agents; ``announced``: the classic builder's words about the context.
    """
    headers = {"Content-Type": "application/x-tar", "X-Registry-Config": registry_config(session)}
    is_local = session.endpoint.host.startswith("unix://")
    contexts = named_contexts(values.many("build-context"))
    prefixes = in_archive(contexts)
    others = {prefix: contexts[name] for name, prefix in prefixes.items()}
    imports = parse_imports(values.many("cache-from"))
    if imports.directories and is_classic():
        raise ExitError("--cache-from type=local needs the output of BuildKit: set DOCKER_BUILDKIT=1")
    for warning in imports.warnings:
        write(STDERR, f"WARN: {warning}\n".encode("utf-8", "surrogateescape"))
    context = open_context(values.arguments[0], values.text("file"), others, imports.directories)
    query = build_query(
        values,
        dockerfile=context.dockerfile,
        remote=context.remote,
        names=names,
        contexts={**contexts, **prefixes},
        ssh=ssh,
        imports=imports,
        exports=parse_exports(values.many("cache-to"))[0],
        is_local=is_local,
    )
    body: Iterator[bytes] | bytes = b""
    if context.body is not None:
        body = _compressed(context.body) if values.is_set("compress") else context.body
        body = _announced(body) if announced else body
    if values.many("secret"):
        document = secrets_document(values.many("secret"))
        headers[HEADER] = str(len(document))
        body = chain((document,), (body,) if isinstance(body, bytes) else body)
    return query, headers, body


def _finish(session: Session, values: Values, outputs: list[Output], identity: str, names: list[str]) -> None:
    if not identity:
        raise ExitError("Cannot write image ID to file: the engine did not send one")
    for output in outputs:
        if output.writes:
            write_output(session, output, identity, names)
        if output.push:
            push(session, names)
    if values.text("iidfile"):
        _write(values.text("iidfile"), identity)
    if values.text("metadata-file"):
        document: dict[str, Any] = {"containerimage.config.digest": identity, "containerimage.digest": identity}
        if names:
            document["image.name"] = ",".join(names)
            described = session.engine.json("GET", f"/images/{names[0]}/json").get("Descriptor")
            if described:  # an index: something is attested about the image
                document |= {"containerimage.digest": described["digest"], "containerimage.descriptor": described}
        _write(values.text("metadata-file"), jsontext.dumps(document) + "\n")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise ExitError(f"open {path}: {(exc.strerror or '').lower()}") from exc


def _call(
    session: Session, query: str, headers: dict[str, str], body: Iterator[bytes] | bytes, method: str, form: str
) -> int:
    from boxship.cli.building.calls import answer

    reader = _events(session, f"{query}&call={method}", headers, body)
    text, status = answer(session.engine.messages(reader), form)
    session.out(text)
    return status


def _events(session: Session, query: str, headers: dict[str, str], body: Iterator[bytes] | bytes) -> BodyReader:
    """Begin a build; return the stream of its events. Raises ClientError; shows the place of a mistake in the Dockerfile."""
    try:
        return session.engine.stream("POST", f"/boxship/build?{query}", body=body, headers=headers)
    except ApiError as exc:
        if exc.excerpt:
            session.error(exc.excerpt)
        raise


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
    reader = session.engine.stream("POST", f"/build?{query}", body=body, headers=headers)
    identity = _show(session.engine.messages(reader), quiet=quiet)
    if quiet:
        session.line(identity)
    return identity


def _live(
    session: Session,
    query: str,
    headers: dict[str, str],
    body: Iterator[bytes] | bytes,
    values: Values,
    debugger: Debugger | None,
    *,
    to_stdout: bool,
) -> tuple[str, list[str]]:
    """Build; return the image's id and names, none when ``debugger`` knows that it is to be built again.

    With ``to_stdout`` that has the result and nothing else.
    """
    from boxship.cli.building.watch import finish, show_nothing, show_raw, watch

    mode = "quiet" if values.is_set("quiet") else values.text("progress")
    if debugger is not None:
        query += "&debug=1"
    reader = _events(session, query, headers, body)
    if mode == "rawjson":
        board = show_raw(reader.lines(), STDERR)
    elif mode == "quiet":
        board = show_nothing(session.engine.messages(reader))
    else:
        live = mode == "tty" or (mode == "auto" and os.isatty(STDERR))
        stopped = None if debugger is None else debugger.stopped
        board = watch(session.engine.messages(reader), STDERR, live=live, why=values.is_set("why"), stopped=stopped)
        if debugger is not None and debugger.rebuild:
            return "", []
    identity = finish(board)
    for ready in board.caches:
        _write_cache(session, values, ready)
    if mode == "quiet" and not to_stdout:
        session.line(identity)
    return identity, board.names


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
