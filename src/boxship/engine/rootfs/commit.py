"""An image from a container's changes (``docker commit``): ``api.backend.Commits``.

The new layer is the difference of the writable layer: mounts and the files that Boxship puts over the container's are not in
it. The container is frozen meanwhile unless the caller does not want that.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from boxship.base import clock
from boxship.base.errors import Conflict, InvalidInput, SystemFailure
from boxship.engine.container import Container
from boxship.engine.lifecycle import Emit, Lifecycle
from boxship.engine.model import State
from boxship.engine.options import request
from boxship.engine.rootfs import threads
from boxship.engine.stillness import kept_still
from boxship.images import ImageService, reference
from boxship.images import changes as instructions
from boxship.images import platform as platforms
from boxship.images.archives import piped
from boxship.images.layers import NewImage
from boxship.images.model import Image
from boxship.snapshots import Snapshotter
from boxship.snapshots.tar_writer import Writable
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.oci import History, ImageConfig, RootFS, digest_of, encode_config
from boxship.spec.oci.config import LAYER_LIMIT


class Options(Protocol):
    """What a commit reads of its call (``api.backend.CommitOptions``)."""

    @property
    def repository(self) -> str: ...

    @property
    def tag(self) -> str: ...

    @property
    def author(self) -> str: ...

    @property
    def comment(self) -> str: ...

    @property
    def pause(self) -> bool: ...

    @property
    def changes(self) -> list[str]: ...

    @property
    def config(self) -> ContainerConfig | None: ...


class CommitService:
    """Implements ``api.backend.Commits``."""

    def __init__(self, lifecycle: Lifecycle, *, images: ImageService, snapshotter: Snapshotter, emit: Emit) -> None:
        self._lifecycle = lifecycle
        self._images = images
        self._snapshotter = snapshotter
        self._emit = emit

    async def commit(self, ref: str, options: Options) -> str:
        """Store the image and return its id. Raises NotFound, InvalidInput, Conflict, SystemFailure."""
        container = self._lifecycle.index.find(ref)
        name = reference.parse_tagged(options.repository, options.tag) if options.repository else None
        own = container.spec.config
        given = own if options.config is None else request.merge_image(options.config, own)
        config = instructions.apply(given, options.changes)
        if config.entrypoint is None:  # also after ENTRYPOINT [], which takes nothing away: as in Docker
            config = msgspec.structs.replace(config, entrypoint=own.entrypoint, cmd=config.cmd or own.cmd)
        async with container.lock, self._still(container, pause=options.pause):
            id = await threads.alone(lambda: self._store(container, config, options))
        if name is not None:
            await self._images.tag(id, options.repository, options.tag)
        shown = name.familiar if name is not None else ""
        self._emit(container, "commit", {"comment": options.comment, "imageID": id, "imageRef": shown})
        return id

    @contextlib.asynccontextmanager
    async def _still(self, container: Container, *, pause: bool) -> AsyncIterator[None]:
        """Keep the container from changing its files; one that is removed has none."""
        if container.status.state is State.DEAD:
            raise Conflict(f"You cannot commit container {container.id} which is Dead")
        if container.status.state is State.REMOVING:
            raise Conflict(f"You cannot commit container {container.id} which is being removed")
        if not pause:
            yield
            return
        async with kept_still(self._lifecycle, container):
            yield

    def _store(self, container: Container, config: ContainerConfig, options: Options) -> str:
        base = self._images.get(container.spec.image_id)
        if len(base.layers) >= LAYER_LIMIT:
            raise InvalidInput("max depth exceeded")
        with self._images.layers.addition() as addition:
            for chain_id in base.layers:
                addition.reuse(chain_id)
            chain_id = piped.layer(addition, base.chain_id, lambda out: self._write(container.id, out))
            new = () if addition.diff_id(chain_id) == piped.EMPTY_TAR else (chain_id,)
            document = _document(container, base, [addition.diff_id(layer) for layer in new], config, options)
            addition.commit([NewImage(document, (*base.layers, *new), (), base.id)])
        return digest_of(document)

    def _write(self, key: str, out: Writable) -> None:
        try:
            self._snapshotter.write_diff(key, out)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise SystemFailure(f"can't read the changes of container {key}: {exc.strerror}") from exc


def _document(container: Container, base: Image, added: list[str], config: ContainerConfig, options: Options) -> bytes:
    """Return the image's configuration document; ``added`` is the diff ID of the new layer, if there is one."""
    below = base.image_config
    created = clock.rfc3339(clock.now_ns())
    step = History(
        created=created,
        created_by=" ".join(request.as_words(container.spec.config.cmd) or []),
        author=options.author or None,
        comment=options.comment or None,
        empty_layer=not added,
    )
    host = platforms.host()
    return encode_config(
        ImageConfig(
            created=created,
            author=options.author,
            architecture=below.architecture or host.architecture,
            variant=below.variant,
            os=below.os or host.os,
            comment=options.comment,
            container=container.id,
            config=config,
            rootfs=RootFS(diff_ids=[*below.diff_ids, *added]),
            history=[*(below.history or []), step],
        )
    )
