"""``create`` and ``run``: make a container, and start it attached or in the background."""

from __future__ import annotations

import os

from boxship.cli import trust
from boxship.cli.attached import (
    Attachment,
    ContainerSignals,
    detach_keys,
    exit_status,
    start_waiting,
)
from boxship.cli.command import STDERR, Command, ExitError
from boxship.cli.options.document import create_document
from boxship.cli.options.flags import CREATE_FLAGS, RUN_FLAGS, SYNONYMS
from boxship.cli.reference import Reference
from boxship.cli.reference import parse as parse_reference
from boxship.cli.stdio import check_tty
from boxship.client.errors import ClientError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

ENGINE_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
PULL_POLICIES = ("always", "missing", "never")


def create(session: Session, values: Values) -> int:
    """Create a container and print its ID."""
    trust.check(values, values.arguments[0], ENGINE_FAILED)
    _require_versions(session, values)
    try:
        _check_pull(values)
        document = create_document(values, detach=False, api_socket=_socket_path(session))
    except (ValueError, OSError) as exc:
        raise _failure(session, str(exc)) from exc
    session.line(create_container(session, values, document))
    return 0


def run(session: Session, values: Values) -> int:
    """Create a container, start it, and stay attached to it unless --detach is given."""
    trust.check(values, values.arguments[0], ENGINE_FAILED)
    _require_versions(session, values)
    detach = values.is_set("detach")
    try:
        _check_pull(values)
        document = create_document(values, detach=detach, api_socket=_socket_path(session))
    except (ValueError, OSError) as exc:
        raise _failure(session, str(exc)) from exc
    if detach and values.many("attach"):
        raise ExitError("conflicting options: cannot specify both --attach and --detach")
    check_tty(stdin=document["AttachStdin"], tty=document["Tty"])
    try:
        container = create_container(session, values, document)
    except ClientError as exc:
        raise _failure(session, str(exc)) from exc
    if detach:
        return _start_detached(session, container)
    return _run_attached(session, values, document, container)


def _socket_path(session: Session) -> str:
    return session.endpoint.host.removeprefix("unix://")


def _check_pull(values: Values) -> None:
    if values.text("pull") not in PULL_POLICIES:
        raise ValueError(
            f'invalid pull option: \'{values.text("pull")}\': must be one of "always", "missing" or "never"'
        )


def _failure(session: Session, text: str, status: int = ENGINE_FAILED) -> ExitError:
    return ExitError(f"{session.program}: {text}\n\nRun '{session.path} --help' for more information", status)


def _require_versions(session: Session, values: Values) -> None:
    for flag in CREATE_FLAGS:
        if flag.since and flag.long in values.changed:
            session.engine.require(flag.since, f"--{flag.long}")


def create_container(session: Session, values: Values, document: dict[str, Any]) -> str:
    """Create the container, pulling its image when it is missing, and return its ID. Raises ClientError, ExitError."""
    image = document["Image"]
    try:
        reference: Reference | None = parse_reference(image)
    except ValueError as exc:
        if not _is_id(image):
            raise _failure(session, str(exc)) from exc
        reference = None
    cid_file = values.text("cidfile")
    if cid_file and os.path.exists(cid_file):
        raise _failure(
            session,
            f"container ID file found, make sure the other container isn't running or delete {cid_file}",
        )
    policy, platform = values.text("pull"), values.text("platform") or os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    query: dict[str, object] = {}
    if values.text("name"):
        query["name"] = values.text("name")
    if platform and session.engine.speaks("1.41"):
        query["platform"] = platform
    if reference is not None and policy == "always":
        _pull(session, reference, platform, quiet=values.is_set("quiet"))
    try:
        answer = session.engine.json("POST", "/containers/create", query, document)
    except NotFoundError:
        if reference is None or policy != "missing":
            raise
        if not values.is_set("quiet"):
            session.error(f"Unable to find image '{reference.tagged().familiar}' locally")
        _pull(session, reference, platform, quiet=values.is_set("quiet"))
        answer = session.engine.json("POST", "/containers/create", query, document)
    for warning in answer.get("Warnings") or []:
        session.error(f"WARNING: {warning}")
    container: str = answer["Id"]
    if cid_file:
        with open(cid_file, "w", encoding="ascii") as file:
            file.write(container)
    return container


def _pull(session: Session, reference: Reference, platform: str, *, quiet: bool) -> None:
    from boxship.cli.pulling import pull

    pull(session, reference.tagged(), descriptor=STDERR, platform=platform, quiet=quiet)


def _is_id(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return len(digits) == 64 and all(letter in "0123456789abcdef" for letter in digits)


def _start_detached(session: Session, container: str) -> int:
    try:
        session.engine.json("POST", f"/containers/{container}/start")
    except ClientError as exc:
        session.line(container)
        raise _start_failure(session, str(exc)) from exc
    session.line(container)
    return 0


def _run_attached(session: Session, values: Values, document: dict[str, Any], container: str) -> int:
    tty = document["Tty"]
    keys = detach_keys(session, values.text("detach-keys"))
    streams = {
        name: document[field]
        for name, field in (("stdin", "AttachStdin"), ("stdout", "AttachStdout"), ("stderr", "AttachStderr"))
    }
    signals = ContainerSignals(session, container, proxy=values.is_set("sig-proxy"), tty=tty)
    try:
        attachment = None
        if any(streams.values()):
            query: dict[str, object] = {"stream": True, **{name: True for name, wanted in streams.items() if wanted}}
            if given := values.text("detach-keys") or session.config.text("detachKeys"):
                query["detachKeys"] = given
            connection = session.engine.hijack(f"/containers/{container}/attach", query)
            attachment = Attachment(connection, tty=tty, stdin=streams["stdin"], keys=keys)
        waiting = start_waiting(session, container, "removed" if values.is_set("rm") else "next-exit")
        try:
            session.engine.json("POST", f"/containers/{container}/start")
        except ClientError as exc:
            if values.is_set("rm"):
                exit_status(session, waiting)  # gone before the caller looks for it
            raise _start_failure(session, str(exc)) from exc
        signals.resize_now()
        if attachment is not None and attachment.run(signals.events, signals.handle):
            return 0
        return exit_status(session, waiting)
    finally:
        signals.close()


def _start_failure(session: Session, text: str) -> ExitError:
    """Return the failure with the status that a shell would give: 127 not found, 126 not executable, 125 the engine's."""
    lower = text.lower()
    status = ENGINE_FAILED
    if any(words in lower for words in ("executable file not found", "no such file or directory")):
        status = NOT_FOUND
    elif "permission denied" in lower or "is a directory" in lower:
        status = NOT_EXECUTABLE
    return _failure(session, text, status)


_USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"

COMMANDS = {
    "container create": Command(
        _USAGE, create, CREATE_FLAGS, least=1, most=None, interspersed=False, synonyms=SYNONYMS
    ),
    "container run": Command(_USAGE, run, RUN_FLAGS, least=1, most=None, interspersed=False, synonyms=SYNONYMS),
}
