"""One tar stream becomes an image of one layer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from boxship.base import clock
from boxship.base.errors import InvalidInput, SystemFailure
from boxship.images.layers import LayerStore, NewImage
from boxship.images.progress import Meter
from boxship.images.transfers.feed import Report
from boxship.snapshots.tar_reader import Readable
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.oci import History, ImageConfig, Platform, RootFS, digest_of, encode_config

CHUNK = 256 * 1024


class Description(NamedTuple):
    """What an import gives its image besides the files."""

    config: ContainerConfig
    comment: str
    platform: Platform
    names: Sequence[str]  # normalised references


def store_image(layers: LayerStore, source: Readable, description: Description) -> str:
    """Store the image and return its id. Blocks. A failure leaves nothing.

    Raises InvalidLayer (no tar, or cut short), SystemFailure (disk full).
    """
    with layers.addition() as addition:
        chain_id = addition.layer(source, "")
        created = clock.rfc3339(clock.now_ns())
        config = ImageConfig(
            created=created,
            comment=description.comment,
            architecture=description.platform.architecture,
            variant=description.platform.variant,
            os=description.platform.os,
            config=description.config,
            rootfs=RootFS(diff_ids=[chain_id]),
            history=[History(created=created, comment=description.comment)],
        )
        document = encode_config(config)
        addition.commit([NewImage(document, (chain_id,), description.names)])
        return digest_of(document)


def full_url(source: str) -> str:
    """Return the URL that ``source`` means: without a scheme it is http, as in Docker. Raises InvalidInput."""
    url = source if "://" in source else f"http://{source}"
    scheme = url.partition("://")[0]
    if scheme not in ("http", "https"):
        raise InvalidInput(f'Get "{url}": unsupported protocol scheme "{scheme}"')
    return url


class Download:
    """The body of a URL as it arrives."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._total = 0  # bytes; known when the first chunk is

    def meter(self, report: Report) -> Callable[[int], None]:
        """Return a function that reports how much was imported when it is told the bytes so far."""
        meter = Meter(report, "Importing", 0)

        def at(count: int) -> None:
            meter.total = self._total
            meter.at(count)

        return at

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body. Raises SystemFailure when the server can't be reached or refuses."""
        import aiohttp  # costs 150 ms; only this needs a client

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=True) as session,
                session.get(self.url) as response,
            ):
                if response.status >= 400:
                    raise SystemFailure(f"Got HTTP status code >= 400: {response.status} {response.reason}")
                self._total = response.content_length or 0
                async for chunk in response.content.iter_chunked(CHUNK):
                    yield chunk
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise SystemFailure(f'Get "{self.url}": {exc or "timeout"}') from exc
