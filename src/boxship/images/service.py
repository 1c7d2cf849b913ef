"""The image service: what the API asks for (``api.backend.Images``) and what the engine needs.

Answers about images come from the store alone and never wait. What changes images runs in threads; removals go one at a
time, additions in parallel.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

import msgspec

from boxship.base import clock
from boxship.base.errors import Conflict, NotFound
from boxship.content import ContentStore
from boxship.images import attested, describe, hello, indexes, listing, progress, reference
from boxship.images import changes as instructions
from boxship.images import platform as platforms
from boxship.images.archives import importing, loading, saving
from boxship.images.archives.outgoing import tags_to_push
from boxship.images.catalog import Catalog, find, means_id, stored_name
from boxship.images.deletion import Deletion, Emit
from boxship.images.elf import ARCHITECTURES
from boxship.images.filters import Filters
from boxship.images.layers import LayerStore, NewImage
from boxship.images.manifests import Manifests
from boxship.images.model import IMAGE, Image, ImageUser, decode_image, encode
from boxship.images.streams import Tee
from boxship.images.transfers import feed
from boxship.images.transfers.feed import Feed, Message, Report
from boxship.images.transfers.pulling import Puller
from boxship.images.transfers.pushing import Pusher
from boxship.images.transfers.remote import Remote
from boxship.images.transfers.shipping import Shipping
from boxship.registry.client.credentials import from_header
from boxship.registry.client.hosts import Credentials, RegistrySettings
from boxship.snapshots.snapshotter import Snapshotter
from boxship.spec.docker.container import ContainerConfig, GraphDriver
from boxship.spec.docker.image import AttestationStatement, DeleteItem, HistoryItem, ImageInspect, ImageSummary
from boxship.spec.oci import digest_of
from boxship.store import Store, Transaction

# The service has a method of the name "list", so its annotations can't use that word.
Rows = list[ImageSummary]
Steps = list[HistoryItem]
Removed = list[DeleteItem]
Attested = list[AttestationStatement]
Ids = list[str]
Outcomes = list[loading.Outcome]


class ImageService:
    """All images of one engine. ``users`` tells which containers were made from which image, ``registries`` the settings.

    ``temporary`` is the directory where archives wait while they are loaded; default: beside the database.
    """

    def __init__(
        self,
        store: Store,
        content: ContentStore,
        snapshotter: Snapshotter,
        *,
        emit: Emit,
        users: Callable[[], Iterable[ImageUser]],
        temporary: str | None = None,
        registries: Callable[[], RegistrySettings] = RegistrySettings,
    ) -> None:
        self.layers = LayerStore(store, content, snapshotter)
        self._store = store
        self._catalog = Catalog(store)
        self._emit = emit
        self._users = users
        self._registries = registries
        self.puller = Puller(self.layers, registries)
        self.remote = Remote(self.puller)
        self.shipping = Shipping(self.layers, self.puller.downloads, self._arrived)
        self._pusher = Pusher(self.layers, self.puller, self.uploads)
        self._temporary = temporary or os.path.dirname(os.path.abspath(store.path))
        self._deletion = Deletion(self.layers, self._catalog, emit=emit, users=users)
        self._removing = asyncio.Lock()

    # for the engine

    def uploads(self) -> int:
        """Return how many blobs may be pushed at once."""
        return self._registries().uploads

    def resolve(self, ref: str, platform: str | None = None) -> Image:
        """Return the image that a person means by ``ref``, the one for ``platform`` if it is here.

        Raises InvalidReference, NoSuchImage, InvalidInput.
        """
        return self._catalog.resolve(ref, platforms.parse(platform) if platform else None)

    def get(self, id: str) -> Image:
        """Return the image with this id. Raises NoSuchImage."""
        return self._catalog.get(id)

    def means(self, ref: str, id: str) -> bool:
        """Return whether a person means the image with this id by ``ref``, maybe with a platform. Raises NoSuchImage."""
        with self._store.read() as transaction:
            found = find(transaction, ref)
            return found == id or (not means_id(ref, found) and indexes.has(transaction, str(stored_name(ref)), id))

    async def sweep(self) -> None:
        """Remove layers and blobs that no image uses: at the start, and after a container of a removed image went."""
        async with self._removing:
            await asyncio.to_thread(self.layers.sweep)

    # reading

    async def list(
        self, *, all: bool, filters: Filters, shared_size: bool, digests: bool, manifests: bool = False
    ) -> Rows:
        """Return the rows of ``image ls``, newest first. Raises InvalidInput for a filter that is not known."""
        del digests  # they are in every row
        users = list(self._users())

        def work() -> Rows:
            described = Manifests(self.layers, users)
            return listing.rows(
                self._catalog,
                users,
                filters,
                described,
                all=all,
                shared_size=shared_size,
                with_manifests=manifests,
            )

        return await asyncio.to_thread(work)

    async def inspect(self, ref: str, *, platform: str | None = None, manifests: bool = False) -> ImageInspect:
        """Return everything about one image. Raises NoSuchImage, NotFound when it is for other platforms."""
        image = self._variant(ref, platform)
        snapshotter = self.layers.snapshotter
        data = await asyncio.to_thread(snapshotter.graph_data, image.chain_id) if image.chain_id else None
        document = describe.inspect(image, GraphDriver(name=snapshotter.name, data=data))
        return await asyncio.to_thread(self._with_manifests, document, image, wanted=manifests)

    async def history(self, ref: str, *, platform: str | None = None) -> Steps:
        """Return how the image came to be, newest step first. Raises NoSuchImage, NotFound as ``inspect``."""
        image = self._variant(ref, platform)
        return describe.history(image, self._catalog.layer_sizes(image), self._parent)

    async def statements(
        self, ref: str, *, platform: str | None = None, types: Collection[str] = ()
    ) -> Sequence[attested.Statement]:
        """Return what is attested about the image, of these predicate types (none: all). Raises NoSuchImage, NotFound."""
        wanted = platforms.parse(platform) if platform else None
        return await asyncio.to_thread(attested.statements, self._store, self.layers.content, ref, wanted, types)

    async def attestations(self, ref: str, *, platform: str | None, types: Collection[str], verbatim: bool) -> Attested:
        """Return the rows of GET /images/{name}/attestations; ``verbatim`` with the statements themselves."""
        return [
            AttestationStatement(
                descriptor=found.descriptor,
                predicate_type=found.predicate_type,
                statement=msgspec.Raw(found.data) if verbatim else msgspec.UNSET,
            )
            for found in await self.statements(ref, platform=platform, types=types)
        ]

    # names and removal

    async def tag(self, ref: str, repository: str, tag: str) -> None:
        """Give the image one more name. Raises InvalidReference, NoSuchImage."""

        def change(transaction: Transaction) -> tuple[str, reference.Reference]:
            id = find(transaction, ref)
            name = reference.parse_tagged(repository, tag)
            document = transaction.get(IMAGE, id)
            assert document is not None
            row = msgspec.structs.replace(decode_image(document), tagged_ns=clock.now_ns())
            transaction.put(IMAGE, id, encode(row))
            same = None if means_id(ref, id) else indexes.named(transaction, str(stored_name(ref)))
            if transaction.lookup(IMAGE, str(name)) != id:
                transaction.release(IMAGE, str(name))
                transaction.claim(IMAGE, str(name), id)
            if same is None or transaction.lookup(indexes.INDEX, str(name)) != same[0]:
                indexes.forget(transaction, str(name))
            if same is not None:
                transaction.claim(indexes.INDEX, str(name), same[0])
            return id, name

        id, name = await self._store.write(change)
        self._event("tag", id, name.familiar)

    async def remove(self, ref: str, *, force: bool, prune: bool, wanted: Sequence[str] = ()) -> Removed:
        """Take a name away, or delete the image with its last one; or, of several platforms, only those ``wanted``.

        Raises NoSuchImage, Conflict, NotFound when there is none for such a platform.
        """
        async with self._removing:
            if wanted:
                return await self._deletion.remove_variants(
                    ref, [platforms.parse(text) for text in wanted], force=force
                )
            return await self._deletion.remove(ref, force=force, prune=prune)

    async def prune(self, filters: Filters) -> dict[str, Any]:
        """Delete the images that no container uses: untagged ones, or all with the filter ``dangling=false``."""
        async with self._removing:
            chosen = await asyncio.to_thread(listing.prunable, self._catalog, list(self._users()), filters)
            before = await asyncio.to_thread(self.layers.disk_usage)
            deleted: Removed = []
            for refs in chosen:
                try:
                    for ref in refs:
                        deleted += await self._deletion.remove(ref, force=False, prune=True)
                except (NotFound, Conflict):
                    pass  # it went with another one, or was taken into use meanwhile
            await asyncio.to_thread(self.layers.sweep)
            content = self.layers.content
            partial = await asyncio.to_thread(content.drop_partials, keep=self.puller.downloads.digests)
            reclaimed = partial + max(0, before - await asyncio.to_thread(self.layers.disk_usage))
        self._emit("image", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ImagesDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    # bringing images in and out

    async def pull(self, reference: str, tag: str, *, platform: str | None, auth: str | None) -> AsyncIterator[Message]:
        """Bring an image here, or all tags of a repository when ``tag`` is "" and the name has none.

        ``auth`` is an X-Registry-Auth header. Raises NotFound and its kin in Docker's words.
        """
        wanted = _pulled(reference, tag)
        if str(wanted.with_default_tag()) == hello.NAME and not self._has_mirror(wanted):
            async for message in self._pull_hello(wanted.with_default_tag(), platform):
                yield message
            return
        async for message in self._pull(wanted, platform, from_header(auth)):
            yield message

    async def _pull(
        self, wanted: reference.Reference, platform: str | None, credentials: Credentials
    ) -> AsyncIterator[Message]:
        chosen = platforms.parse_wanted(platform)
        newer = False
        async with self.puller.session() as session:
            names = [wanted]
            if not wanted.tag and not wanted.digest:
                tags = await self.puller.tags(session, wanted, credentials)
                names = [wanted._replace(tag=tag) for tag in tags]
            for name in names:
                before = await asyncio.to_thread(self._lookup, name)
                async for message in self.puller.pull(session, name, credentials, chosen):
                    yield message
                after = await asyncio.to_thread(self._lookup, name)
                newer = newer or before != after
        labels = self.get(after[0]).config.labels if names and after[0] else None
        self._emit("image", "pull", wanted.familiar, {**(labels or {}), "name": wanted.familiar_name})
        happened = "Downloaded newer image for" if newer else "Image is up to date for"
        yield progress.status(f"Status: {happened} {wanted.familiar}")

    def _lookup(self, name: reference.Reference) -> tuple[str | None, Sequence[str]]:
        """Return the image that the name means, and those of all platforms that are kept under it."""
        stored = str(name._replace(tag=None) if name.digest else name)
        with self._store.read() as transaction:
            index = indexes.named(transaction, stored)
            images = [member.image for member in index[1].images] if index is not None else []
            return transaction.lookup(IMAGE, stored), images

    def _has_mirror(self, name: reference.Reference) -> bool:
        settings = self._registries()
        return bool(settings.mirrors) or any(rule.matches(name.name) for rule in settings.rules)

    async def _pull_hello(self, wanted: reference.Reference, platform: str | None) -> AsyncIterator[Message]:
        """Materialise the built-in image, which needs no registry."""
        architecture = (platforms.parse(platform) if platform else platforms.host()).architecture
        if architecture not in ARCHITECTURES:
            raise NotFound(f"no matching manifest for {platform or architecture} in the manifest list entries")
        yield progress.status("Pulling from library/hello-world", wanted.tag or "")
        id, new = await asyncio.to_thread(self._store_hello, architecture)
        layer = self.get(id).diff_ids[0].partition(":")[2][:12]
        yield progress.status("Pull complete" if new else "Already exists", layer)
        self._event("pull", id, wanted.familiar)
        happened = "Downloaded newer image for" if new else "Image is up to date for"
        yield progress.status(f"Status: {happened} {wanted.familiar}")

    async def push(
        self, ref: str, tag: str, *, auth: str | None, platform: str | None = None
    ) -> AsyncIterator[Message]:
        """Push one tag, or all of a repository when ``tag`` is "" and the name has none. Errors are messages, as Docker's.

        ``auth`` is an X-Registry-Auth header.
        """
        wanted = platforms.parse(platform) if platform else None
        name = reference.parse(ref)
        if tag:
            name = reference.parse_tagged(ref, tag)
        yield progress.status(f"The push refers to repository [{name.name}]")
        with self._store.read() as transaction:
            tags = tags_to_push(transaction, name)
        async with self.puller.session() as session:
            async for message in self._pusher.push(session, name._replace(tag=None), tags, from_header(auth), wanted):
                yield message
        self._emit("image", "push", name.familiar, {"name": name.familiar_name})

    async def import_(
        self,
        source: AsyncIterator[bytes] | str,
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str | None,
    ) -> AsyncIterator[Message]:
        """Make an image of one layer from a tar stream, or from the tar at a URL; the last message is its id."""
        name = reference.parse_tagged(repository, tag) if repository else None
        description = importing.Description(
            config=instructions.apply(ContainerConfig(), changes),
            comment=message or f"Imported from {source if isinstance(source, str) else '-'}",
            platform=platforms.parse(platform) if platform else platforms.host(),
            names=[str(name)] if name else [],
        )
        download = importing.Download(importing.full_url(source)) if isinstance(source, str) else None
        if download is not None:
            yield progress.status(f"Downloading from {download.url}")
        stored: Ids = []

        def work(stream: Feed, report: Report) -> None:
            observe = None if download is None else download.meter(report)
            stored.append(importing.store_image(self.layers, Tee(stream, observe=observe), description))

        body = source if download is None else download.chunks()
        assert not isinstance(body, str)
        async for said in feed.run(work, body):
            yield said
        (id,) = stored
        if name:
            self._event("tag", id, name.familiar)
        self._event("import", id, id)
        yield progress.status(id)

    async def load(
        self, source: AsyncIterator[bytes], *, quiet: bool, platform: str | None = None
    ) -> AsyncIterator[Message]:
        """Store the images of an archive, all or none; with ``platform`` those for it."""
        wanted = platforms.parse_wanted(platform)
        outcome: Outcomes = []

        def work(stream: Feed, report: Report) -> None:
            said = None if quiet else report
            outcome.append(loading.load(self.layers, stream, said, self._temporary, wanted))

        async for said in feed.run(work, source):
            yield said
        (done,) = outcome
        told: set[str] = set()
        for image in done.images:
            self._event("load", image.id, image.id)
            for name in image.names:
                if name in told:
                    continue  # another platform has it too
                told.add(name)
                shown = reference.parse(name).familiar
                if name in done.moved:
                    yield progress.stream(
                        f"The image {shown} already exists, "
                        f"renaming the old one with ID {done.moved[name]} to empty string\n"
                    )
                yield progress.stream(f"Loaded image: {shown}\n")
            if not image.names:
                yield progress.stream(f"Loaded image ID: {image.id}\n")

    async def save(self, refs: Sequence[str], *, platform: str | None = None) -> AsyncIterator[bytes]:
        """Return the archive of these images in pieces. Raises NotFound before the first one."""
        wanted = platforms.parse(platform) if platform else None

        def start() -> tuple[Sequence[saving.Selected], Iterator[bytes]]:
            with self._store.read() as transaction:
                selected = saving.select(transaction, refs, wanted)
            return selected, saving.write(self.layers, selected)

        selected, pieces = await asyncio.to_thread(start)
        for image in selected:
            self._event("save", image.id, image.id)
        return _in_threads(pieces)

    # private

    def _variant(self, ref: str, platform: str | None) -> Image:
        return self._catalog.resolve_variant(ref, platforms.parse(platform)) if platform else self.resolve(ref)

    def _with_manifests(self, document: ImageInspect, image: Image, *, wanted: bool) -> ImageInspect:
        described = Manifests(self.layers, list(self._users()))
        found = listing.index_of(image, self._catalog.indexes())
        if found is not None:
            document = msgspec.structs.replace(document, descriptor=described.descriptor(found[0]) or msgspec.UNSET)
        if wanted:
            shown = described.of_index(*found) if found is not None else described.of_image(image)
            document = msgspec.structs.replace(document, manifests=shown)
        return document

    def _parent(self, id: str) -> Image | None:
        try:
            return self.get(id)
        except NotFound:
            return None

    def _arrived(self, id: str, names: Sequence[str]) -> None:
        for name in names:
            self._event("pull", id, reference.parse(name).familiar)
        if not names:
            self._event("pull", id, id)

    def _event(self, action: str, id: str, name: str) -> None:
        self._emit("image", action, id, {**(self.get(id).config.labels or {}), "name": name})

    def _store_hello(self, architecture: str) -> tuple[str, bool]:
        """Store the built-in image if it is not there; return its id and whether its name is new."""
        tar = hello.layer(architecture)
        document = hello.config(architecture, tar)
        id, chain_id = digest_of(document), digest_of(tar)
        with self._store.read() as transaction:
            new = transaction.lookup(IMAGE, hello.NAME) != id
        if new:
            with self.layers.addition() as addition:
                if not addition.reuse(chain_id):
                    addition.layer(BytesIO(tar), "", diff_id=chain_id)
                addition.commit([NewImage(document, (chain_id,), (hello.NAME,))])
        return id, new


def _pulled(name: str, tag: str) -> reference.Reference:
    """Return what a pull's ``fromImage`` and ``tag`` mean; the tag may be a digest."""
    if ":" in tag:
        parsed = reference.parse(name)
        return reference.parse(f"{parsed.name}@{tag}")
    if tag:
        return reference.parse_tagged(name, tag)
    parsed = reference.parse(name)
    return parsed._replace(tag=None) if parsed.digest else parsed


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield from an iterator that blocks; while a piece is being sent, the next one is made."""
    coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
    try:
        while (piece := await coming) != b"":
            coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
            yield piece
    finally:
        await asyncio.gather(coming, return_exceptions=True)
