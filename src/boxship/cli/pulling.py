"""What is pulled or pushed by name, and pulling one: the call, the credentials for its registry, the progress."""

from __future__ import annotations

from boxship.cli.command import ExitError
from boxship.cli.credentials import registry_auth
from boxship.cli.progress import Progress
from boxship.cli.reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.reference import Reference


def asked(session: Session, text: str, *, all_tags: bool, quiet: bool) -> Reference:
    """Return what ``pull`` and ``push`` were asked for: with the tag ``latest``, which is told, unless it means all tags.

    Raises ExitError.
    """
    try:
        reference = parse(text)
    except ValueError as exc:
        raise ExitError(str(exc)) from exc
    if all_tags and (reference.tag or reference.digest):
        raise ExitError("tag can't be used with --all-tags/-a")
    if all_tags or reference.tag or reference.digest:
        return reference
    if not quiet:
        session.line("Using default tag: latest")
    return reference.tagged()


def pull(
    session: Session,
    reference: Reference,
    *,
    descriptor: int,
    platform: str = "",
    all_tags: bool = False,
    quiet: bool = False,
) -> None:
    """Pull ``reference`` and show the progress on ``descriptor``. Raises ApiError, ExitError."""
    query: dict[str, object] = {"fromImage": reference.name}
    if not all_tags:
        query["tag"] = reference.digest or reference.tag or "latest"
    if platform:
        query["platform"] = platform.lower()
    headers = {"X-Registry-Auth": registry_auth(session, reference.domain)}
    reader = session.engine.stream("POST", "/images/create", query, headers=headers)
    messages = session.engine.messages(reader)
    if quiet:
        for message in messages:
            if message.get("error"):
                Progress(descriptor).show([message])
    else:
        Progress(descriptor).show(messages)
