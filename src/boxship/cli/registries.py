"""Registries asked by the command line itself, as ``manifest`` does: it imports the client that the engine uses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from boxship.base.errors import BoxshipError
from boxship.cli import credentials
from boxship.cli.command import ExitError, Session
from boxship.cli.reference import Reference
from boxship.client import jsontext
from boxship.registry.client.errors import ManifestUnknown, NameUnknown
from boxship.registry.client.hosts import Credentials, RegistrySettings, endpoints
from boxship.registry.client.places import first
from boxship.registry.client.pushing import BlobPusher, put_manifest
from boxship.registry.client.repository import Document, Repository
from boxship.registry.client.session import Session as Connections
from boxship.spec.oci import digest_of

T = TypeVar("T")

CERTIFICATES = ("/etc/boxship/certs.d", "/etc/docker/certs.d")


def fetch(session: Session, reference: Reference, *, insecure: bool) -> tuple[Document, dict[str, str]]:
    """Return a manifest or index, and the platform that an image's configuration names. Raises ExitError."""

    async def work(connections: Connections) -> tuple[Document, dict[str, str]]:
        async def ask(repository: Repository) -> Document:
            return await repository.manifest(reference.digest or reference.tag)

        places = _repositories(session, connections, reference)
        repository, document = await first(places, ask)
        parsed = jsontext.loads(document.data)
        config = parsed.get("config") if isinstance(parsed, dict) else None
        if not isinstance(config, dict):
            return document, {}
        async with repository.blob(str(config.get("digest", ""))) as (answer, _):
            found = jsontext.loads(await answer.document())
        keys = ("architecture", "os", "os.version", "variant")
        return document, {key: str(found[key]) for key in keys if found.get(key)}

    try:
        return _run(work, reference, insecure=insecure)
    except (ManifestUnknown, NameUnknown) as exc:
        raise ExitError(f"no such manifest: {reference.familiar}") from exc
    except (BoxshipError, ValueError) as exc:
        raise ExitError(str(exc)) from exc


def push_list(
    session: Session,
    target: Reference,
    entries: list[tuple[Reference, Document]],
    document: Document,
    *,
    insecure: bool,
) -> list[str]:
    """Push a list with its images into the target's repository; return the images' digests. Raises ExitError."""

    async def work(connections: Connections) -> list[str]:
        repository, _ = await first(_repositories(session, connections, target), lambda place: place.ping(push=True))
        pushed = []
        for source, manifest in entries:
            for descriptor in _blobs(manifest):
                await BlobPusher(repository, descriptor["digest"], _Elsewhere(descriptor)).run(
                    () if source.path == target.path else (source.path,)
                )
            await put_manifest(repository, manifest.digest, manifest)
            pushed.append(manifest.digest)
        await put_manifest(repository, target.tag or "latest", document)
        return pushed

    try:
        return _run(work, target, insecure=insecure)
    except (BoxshipError, ValueError) as exc:
        raise ExitError(str(exc)) from exc


class _Elsewhere:
    """A blob that this machine does not have: it can only be mounted."""

    def __init__(self, descriptor: dict[str, Any]) -> None:
        self.size = int(descriptor["size"])
        self._digest = descriptor["digest"]

    def read(self, offset: int, size: int) -> bytes:  # noqa: ARG002
        raise ExitError(f"the registry would not mount blob {self._digest} from its repository")


def _blobs(manifest: Document) -> list[dict[str, Any]]:
    parsed = jsontext.loads(manifest.data)
    return [parsed["config"], *(layer for layer in parsed.get("layers", []) if not layer.get("urls"))]


def _repositories(session: Session, connections: Connections, reference: Reference) -> list[Repository]:
    auth = credentials.load(session.config, reference.domain)
    known = Credentials(
        username=auth.get("username", ""),
        password=auth.get("password", ""),
        identity_token=auth.get("identitytoken", ""),
    )
    places = endpoints(reference.domain, reference.path, connections.settings)
    return [Repository(connections, place, known) for place in places]


def _run(work: Callable[[Connections], Awaitable[T]], reference: Reference, *, insecure: bool) -> T:
    settings = RegistrySettings(insecure=(reference.domain,) if insecure else (), certificates=CERTIFICATES)

    async def connected() -> T:
        async with Connections(settings) as connections:
            return await work(connections)

    return asyncio.run(connected())


def document(media_type: str, text: str) -> Document:
    """Return a document that is made here."""
    data = text.encode()
    return Document(digest_of(data), media_type, data)
