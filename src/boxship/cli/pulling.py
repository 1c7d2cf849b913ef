"""Pulling one image by name: the call, the credentials for its registry, the progress."""

from __future__ import annotations

from boxship.cli.credentials import registry_auth
from boxship.cli.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.reference import Reference


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
