"""Uploads that break off, and registries that ask for time."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from aiohttp import web

from boxship.registry.client.errors import Unreachable, of_answer, wait_of
from boxship.registry.client.pushing import BlobPusher, Memory, Pushed, put_manifest
from boxship.registry.client.repository import Document, Patience
from boxship.registry.client.session import Timeouts

DATA = bytes(range(256)) * 40_000  # more than one read of a socket
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


class Uploads:
    """A registry's uploads. ``breaks`` are the offsets at which it closes the connection, one after the other."""

    def __init__(self, *breaks: int, forgets: bool = False) -> None:
        self.data = b""
        self.done = False
        self.methods: list[str] = []
        self._breaks = list(breaks)
        self._forgets = forgets

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.methods.append(request.method)
        location = {"Location": "/v2/a/b/blobs/uploads/one?state=x"}
        match request.method:
            case "HEAD":
                return web.Response(status=404)
            case "POST":
                self.data = b""
                return web.Response(status=202, headers=location)
            case "GET":
                if self._forgets:
                    return web.Response(status=404)
                return web.Response(status=204, headers={**location, "Range": f"0-{len(self.data) - 1}"})
        if span := request.headers.get("Content-Range"):
            assert span.partition("-")[0] == str(len(self.data))
        async for piece in request.content.iter_any():
            self.data += piece
            if self._breaks and len(self.data) >= self._breaks[0]:
                self._breaks.pop(0)
                assert request.transport is not None
                request.transport.close()
                return web.Response(status=500)
        if request.method == "PATCH":
            return web.Response(status=202, headers=location)
        self.done = True
        return web.Response(status=201, headers={"Docker-Content-Digest": DIGEST})


def push(fake, session, run, uploads: Uploads, **settings: object):
    async def work():
        async with fake(uploads) as registry, session(**settings) as opened:
            return await BlobPusher(registry.repository(opened), DIGEST, Memory(DATA)).run()

    return run(work())


@pytest.mark.row("REG-01")
def test_an_upload_that_broke_off_goes_on_in_chunks_where_it_stopped(fake, session, run):
    uploads = Uploads(3_000_000, 6_000_000)
    assert push(fake, session, run, uploads) == (Pushed.UPLOADED, "")
    assert uploads.done
    assert uploads.data == DATA
    assert uploads.methods.count("POST") == 1
    assert {"PATCH", "GET"} <= set(uploads.methods)


def test_an_upload_that_the_registry_has_forgotten_begins_anew(fake, session, run):
    uploads = Uploads(3_000_000, forgets=True)
    assert push(fake, session, run, uploads) == (Pushed.UPLOADED, "")
    assert uploads.data == DATA
    assert uploads.methods.count("POST") == 2


def test_an_upload_that_always_breaks_ends_after_as_many_attempts_as_allowed(fake, session, run):
    uploads = Uploads(*[1] * 100)
    with pytest.raises(Unreachable):
        push(fake, session, run, uploads, attempts=4)
    assert sum(method in ("PUT", "PATCH") for method in uploads.methods) == 4


def put(fake, session, run, answers: list[web.Response]) -> None:
    """Push a manifest to a registry that has these answers, one after the other."""

    async def handler(request):
        return answers.pop(0)

    async def work():
        async with fake(handler) as registry, session() as opened:
            data = b'{"schemaVersion": 2}'
            document = Document(f"sha256:{hashlib.sha256(data).hexdigest()}", "application/x", data)
            await put_manifest(registry.repository(opened), "latest", document)

    run(work())


def test_i7_a_registry_that_asks_for_time_is_asked_again(fake, session, run):
    answers = [
        web.Response(status=429, headers={"Retry-After": "0"}),
        web.Response(status=503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}),
        web.Response(status=201),
    ]
    put(fake, session, run, answers)
    assert not answers


@pytest.mark.parametrize("asked", ["86400", "Sun, 06 Nov 2044 08:49:37 GMT", "9" * 300])
def test_i7_nobody_waits_for_a_registry_that_asks_for_too_much(fake, session, run, asked):
    answers = [web.Response(status=429, headers={"Retry-After": asked}), web.Response(status=201)]
    with pytest.raises(Unreachable, match=r"429.*it may be asked again in \d+ seconds"):
        put(fake, session, run, answers)
    assert len(answers) == 1


def test_i7_short_waits_have_a_bound_together() -> None:
    patience = Patience(100, Timeouts(pause=0, longest_wanted=0.01))

    async def wait(times: int) -> None:
        for _ in range(times):
            await patience.again(Unreachable("busy", wait=0.004))

    asyncio.run(wait(2))
    with pytest.raises(Unreachable, match=r"busy \(it may be asked again"):
        asyncio.run(wait(1))
    patience.renew()
    asyncio.run(wait(2))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *[("7", 7), (" 0 ", 0), ("", 0), ("-5", 0), ("1e9", 0), ("9" * 4000, 999_999_999), ("٣", 0)],
        *[("Thu, 01 Jan 1970 00:20:00 GMT", 200), ("Thu, 01 Jan 1970 00:10:00 GMT", 0), ("Thu, 99 Jan 1970", 0)],
        *[("Thu, 01 Jan 99999 00:00:00 GMT", 0), ("Thu, 01 Jan 1970 00:20:00 +9999999999", 0), ("(" * 60, 0)],
    ],
)
def test_i7_what_retry_after_may_say(header: str, seconds: float) -> None:
    assert wait_of(header, 1000.0) == seconds


def test_an_error_carries_the_wait_that_was_asked_for() -> None:
    error = of_answer(503, "Service Unavailable", b"", retry_after="7")
    assert isinstance(error, Unreachable)
    assert error.wait == 7
