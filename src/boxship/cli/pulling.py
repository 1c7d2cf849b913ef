"""Pulling one image by name: the call, the credentials for its registry, the progress."""

from __future__ import annotations

from boxship.cli.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.reference import Reference

HUB = "https://index.docker.io/v1/"  # the key of Docker Hub's credentials


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


def registry_auth(session: Session, domain: str) -> str:
    """Return the credentials for a registry as the API takes them: base64url of their JSON, ``{}`` for none."""
    from binascii import a2b_base64, b2a_base64

    from boxship.client import jsontext

    key = HUB if domain == "docker.io" else domain
    held = session.config.document.get("auths") or {}
    entry = held.get(key) or held.get(f"https://{key}") or {}
    auth: dict[str, str] = {}
    if entry.get("auth"):
        user, _, password = a2b_base64(entry["auth"]).decode("utf-8", "replace").partition(":")
        auth = {"username": user, "password": password.rstrip("\0"), "serveraddress": key}
    if entry.get("identitytoken"):
        auth["identitytoken"] = entry["identitytoken"]
        auth["serveraddress"] = key
    text = jsontext.dumps(auth).encode()
    return b2a_base64(text, newline=False).decode().replace("+", "-").replace("/", "_")
