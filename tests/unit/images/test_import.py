"""Importing a tar stream: what it gives, and that a bad one leaves nothing."""

import asyncio
import bz2
import gzip
import json
import lzma
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard

from boxship.base.errors import BoxshipError, InvalidInput

pytestmark = pytest.mark.row("IMG-15")


def test_an_import_is_an_image_of_one_layer(bench, make_tar) -> None:
    id = bench.import_(make_tar(hello="hi"), "app:1", changes=['CMD ["/hello"]'], message="")
    image = bench.service.resolve("app:1")
    assert image.id == id
    assert image.config.cmd == ["/hello"]
    assert image.size == 2
    (row,) = asyncio.run(bench.service.history("app:1"))
    assert (row.comment, row.size, row.tags) == ("Imported from -", 2, ["app:1"])
    assert bench.events == [("tag", id, "app:1"), ("import", id, id)]


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress, lambda data: data]
)
def test_any_compression_gives_the_same_layer(bench, make_tar, compress: Callable[[bytes], bytes]) -> None:
    tar = make_tar(a="x" * 5000)
    bench.import_(compress(tar), "app")
    again = bench.import_(tar, "plain")
    assert bench.service.resolve("app").diff_ids == bench.service.get(again).diff_ids
    with bench.store.read() as transaction:
        assert len(transaction.list("layer")) == 1


def test_a_platform_and_message_are_kept(bench, make_tar) -> None:
    bench.import_(make_tar(), "app", platform="linux/arm64/v8", message="mine")
    inspected = asyncio.run(bench.service.inspect("app"))
    assert (inspected.architecture, inspected.variant, inspected.comment) == ("arm64", "v8", "mine")


def test_an_import_without_a_name_is_dangling(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"))
    assert bench.service.get(id).references == []
    assert bench.names(dangling=["true"]) == [[]]


def test_a_name_moves_from_the_image_that_had_it(bench, make_tar) -> None:
    first = bench.import_(make_tar(a="1"), "app")
    second = bench.import_(make_tar(a="2"), "app")
    assert bench.service.resolve("app").id == second
    assert bench.service.get(first).references == []


BROKEN = "Error processing tar file(exit status 1): "


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tar: tar[:700], BROKEN + "unexpected EOF"),
        (lambda tar: gzip.compress(tar)[:-100], BROKEN + "unexpected EOF"),
        (lambda tar: zstandard.ZstdCompressor().compress(tar)[:-20], BROKEN + "unexpected EOF"),
        (lambda tar: b"garbage\n", BROKEN + "unexpected EOF"),
        (lambda tar: b"garbage\n" * 100, BROKEN + "archive/tar: invalid tar header"),
        (lambda tar: gzip.compress(tar)[:-8] + bytes(8), BROKEN + "gzip: invalid"),
        (lambda tar: gzip.compress(tar) + b"trailing garbage", BROKEN + "gzip: invalid header"),
    ],
)
def test_a_broken_stream_is_an_error_and_leaves_nothing(bench, make_tar, damage, message: str) -> None:
    tar = make_tar(**{f"file{number}": str(number) * 400 for number in range(20)})
    with pytest.raises(InvalidInput) as caught:
        bench.import_(damage(tar), "app")
    assert str(caught.value).startswith(message)
    assert bench.is_empty()


def test_i3_a_decompression_bomb_is_refused(bench) -> None:
    zeros = zstandard.ZstdCompressor(level=19).compress(bytes(200 * 1024 * 1024))
    assert len(zeros) < 20_000
    with pytest.raises(InvalidInput, match="grows more than"):
        bench.import_(zeros, "app")
    assert bench.is_empty()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": ["FOO x"]}, "foo is not a valid change command"),
        ({"platform": "windows/amd64"}, 'operating system "windows" is not supported'),
        ({"platform": "a/b/c/d"}, "unknown operating system or architecture"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(bench, make_tar, options, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        bench.import_(make_tar(a="1"), "app", **options)
    assert bench.is_empty()


def test_a_bad_name_is_refused(bench, make_tar) -> None:
    with pytest.raises(InvalidInput, match=r"repository name \(library/App\) must be lowercase"):
        bench.import_(make_tar(a="1"), "App")


def test_an_url_of_another_scheme_is_refused(bench) -> None:
    async def run() -> None:
        options = {"repository": "", "tag": "", "message": "", "changes": [], "platform": None}
        async for _ in bench.service.import_("file:///etc/passwd", **options):
            pass

    with pytest.raises(InvalidInput, match='unsupported protocol scheme "file"'):
        asyncio.run(run())


def test_a_client_that_leaves_leaves_nothing(bench, make_tar) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield make_tar(a="x" * 5000)[:1500]
        raise BoxshipError("client gone")

    async def run() -> None:
        options = {"repository": "app", "tag": "", "message": "", "changes": [], "platform": None}
        async for _ in bench.service.import_(half(), **options):
            pass

    with pytest.raises(BoxshipError, match="client gone"):
        asyncio.run(run())
    assert bench.is_empty()


def test_closing_the_messages_stops_the_import(bench, make_tar) -> None:
    async def endless() -> AsyncIterator[bytes]:
        tar = make_tar(a="1")
        yield tar[:512]
        await asyncio.Event().wait()

    async def run() -> None:
        options = {"repository": "app", "tag": "", "message": "", "changes": [], "platform": None}
        messages = bench.service.import_(endless(), **options)
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(run())
    assert bench.is_empty()


def test_the_config_document_is_kept_verbatim_and_named_by_its_digest(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"), "app")
    document = json.loads(bench.service.get(id).document)
    assert document["history"][0]["comment"] == "Imported from -"
    assert document["rootfs"]["type"] == "layers"
