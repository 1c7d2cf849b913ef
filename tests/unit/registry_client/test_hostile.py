"""I5, I6, I7: a registry that is slow, endless, lies, or points elsewhere costs bounded time and memory, and learns nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os

import pytest
from aiohttp import web

from boxship.registry.client.errors import Misbehaved, Mismatch, NoCredentials, RegistryError, Unreachable
from boxship.registry.client.fetching import Fetcher
from boxship.registry.client.hosts import Endpoint
from boxship.registry.client.slots import Slots

DATA = os.urandom(300_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


async def fetch(content, repositories):
    partial = content.partial(DIGEST, len(DATA))
    try:
        await Fetcher(repositories, DIGEST, partial, Slots(lambda: 3), lambda _: None).run()
        await asyncio.to_thread(partial.verify)
        return os.pread(partial._fd, len(DATA), 0)
    finally:
        partial.close()


def ranged(request: web.BaseRequest, data: bytes = DATA) -> web.Response:
    wanted = request.headers.get("Range")
    if wanted is None:
        return web.Response(body=data)
    start, _, end = wanted.removeprefix("bytes=").partition("-")
    last = int(end) if end else len(data) - 1
    head = {"Content-Range": f"bytes {start}-{last}/{len(data)}"}
    return web.Response(status=206, body=data[int(start) : last + 1], headers=head)


def scenario(fake, session, run, handler, work):
    async def go():
        async with fake(handler) as registry, session() as connections:
            return await work(registry, registry.repository(connections))

    return run(go())


def test_i7_a_registry_that_trickles_is_given_up(fake, session, run, content):
    async def handler(request):
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA))})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    with pytest.raises(Unreachable):
        scenario(fake, session, run, handler, lambda _, repository: fetch(content, [repository]))


def test_i7_a_manifest_without_end_is_cut_off(fake, session, run):
    sent = 0

    async def handler(request):
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 20))
            sent += 1 << 20

    with pytest.raises(Misbehaved, match="larger than"):
        scenario(fake, session, run, handler, lambda _, repository: repository.manifest("latest"))
    assert sent < 64 << 20


def test_i7_redirects_without_end_are_counted(fake, session, run):
    async def handler(request):
        return web.Response(status=307, headers={"Location": request.path + "x"})

    async def work(registry, repository):
        with pytest.raises(Misbehaved, match="stopped after 8 redirects"):
            await repository.manifest("latest")
        return len(registry.requests)

    assert scenario(fake, session, run, handler, work) == 9


def test_i7_endless_503_ends_after_as_many_attempts_as_allowed(fake, session, run):
    async def handler(request):
        return web.Response(status=503)

    async def work(registry, repository):
        with pytest.raises(Unreachable, match="received unexpected HTTP status: 503"):
            await repository.manifest("latest")
        return len(registry.requests)

    assert scenario(fake, session, run, handler, work) == 3


def test_i7_a_list_of_tags_without_end_is_refused(fake, session, run):
    pages = 0

    async def handler(request):
        nonlocal pages
        pages += 1
        body = json.dumps({"tags": [f"t{pages}-{number}" for number in range(2000)]}).encode()
        return web.Response(body=body, headers={"Link": f'</v2/a/b/tags/list?last={pages}>; rel="next"'})

    with pytest.raises(Misbehaved, match="has no end"):
        scenario(fake, session, run, handler, lambda _, repository: repository.tags())
    assert pages < 60


def test_i5_another_manifest_than_the_digest_names_is_refused(fake, session, run):
    async def handler(request):
        return web.Response(body=b"{}", content_type="application/vnd.oci.image.manifest.v1+json")

    with pytest.raises(Mismatch, match="manifest verification failed"):
        scenario(fake, session, run, handler, lambda _, repository: repository.manifest(DIGEST))


def test_i5_a_digest_that_is_a_path_never_reaches_the_disk(fake, session, run):
    async def handler(request):
        head = {"Docker-Content-Digest": "sha256:../../etc/passwd"}
        return web.Response(body=b"{}", headers=head)

    with pytest.raises(Mismatch):
        scenario(fake, session, run, handler, lambda _, repository: repository.manifest("latest"))


@pytest.mark.parametrize("sent", [DATA[:-1] + b"?", DATA + b"more"], ids=["other bytes", "too many"])
def test_i5_wrong_bytes_never_get_a_name(fake, session, run, content, sent):
    async def handler(request):
        return web.Response(body=sent)

    with pytest.raises(Exception, match="sha256"):
        scenario(fake, session, run, handler, lambda _, repository: fetch(content, [repository]))
    assert not content.exists(DIGEST)


def test_a_connection_that_stalls_is_continued_where_it_stopped(fake, session, run, content):
    async def handler(request):
        if "Range" in request.headers:
            return ranged(request)
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA))})
        await response.prepare(request)
        await response.write(DATA[:200_000])
        await asyncio.sleep(60)  # until the client loses its patience
        return response

    async def work(registry, repository):
        data = await fetch(content, [repository])
        return data, [request.headers.get("Range", "") for request in registry.requests]

    data, ranges = scenario(fake, session, run, handler, work)
    assert data == DATA
    assert ranges[0] == ""
    assert len(ranges) == 2
    assert ranges[1] == "bytes=200000-299999"


def test_i5_a_registry_that_knows_no_ranges_is_read_from_the_start(fake, session, run, content):
    partial = content.partial(DIGEST, len(DATA))
    partial.write(0, DATA[:100_000])
    partial.close()

    async def handler(request):
        return web.Response(body=DATA)

    assert scenario(fake, session, run, handler, lambda _, repository: fetch(content, [repository])) == DATA


def test_i5_another_range_than_the_one_asked_for_is_refused(fake, session, run, content):
    partial = content.partial(DIGEST, len(DATA))
    partial.write(0, DATA[:100_000])
    partial.close()

    async def handler(request):
        return web.Response(status=206, body=DATA[:10], headers={"Content-Range": f"bytes 0-9/{len(DATA)}"})

    with pytest.raises(Misbehaved, match="answers with the range"):
        scenario(fake, session, run, handler, lambda _, repository: fetch(content, [repository]))


@pytest.mark.parametrize("status", [404, 200])
def test_a_large_blob_comes_from_the_next_place_or_whole(fake, session, run, content, status, monkeypatch):
    """More than one connection: the first place lacks the blob, or knows no ranges."""
    monkeypatch.setattr("boxship.registry.client.fetching._ALONE", 0)
    monkeypatch.setattr("boxship.content.partial.CHUNK", 65536)

    async def first_handler(request):
        return web.Response(status=status, body=DATA if status == 200 else b"")

    async def full(request):
        return ranged(request)

    async def go():
        async with fake(first_handler) as first, fake(full) as second, session() as connections:
            return await fetch(content, [first.repository(connections), second.repository(connections)])

    assert run(go()) == DATA


def test_a_blob_that_one_place_lacks_comes_from_the_next(fake, session, run, content):
    async def empty(request):
        return web.Response(status=404)

    async def full(request):
        return ranged(request)

    async def go():
        async with fake(empty) as first, fake(full) as second, session() as connections:
            return await fetch(content, [first.repository(connections), second.repository(connections)])

    assert run(go()) == DATA


def test_i6_credentials_do_not_follow_a_redirect_to_another_host(fake, session, run):
    async def elsewhere(request):
        return web.Response(body=b"{}")

    async def go():
        async with fake(elsewhere) as other, session() as connections:

            async def handler(request):
                if "Authorization" not in request.headers:
                    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
                return web.Response(status=307, headers={"Location": f"{other.url}/stolen"})

            async with fake(handler) as registry:
                await registry.repository(connections, username="joe", password="secret").manifest("latest")
                assert "Authorization" in registry.requests[-1].headers
            return [request.headers for request in other.requests]

    (headers,) = run(go())
    assert "Authorization" not in headers


def test_i6_credentials_are_not_sent_to_a_token_service_in_the_clear(fake, session, run):
    async def handler(request):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="http://192.0.2.1/token"'})

    async def go():
        async with fake(handler) as registry, session() as connections:
            with pytest.raises(Misbehaved, match="is not encrypted") as caught:
                await registry.repository(connections, username="joe", password="secret").manifest("latest")
            assert "secret" not in str(caught.value)

    run(go())


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://127.0.0.1:1/x", "file:///etc/passwd"])
def test_i6_a_registry_outside_does_not_make_us_ask_this_machine(session, target):
    outside = Endpoint("http://registry.test:5000", "a", verify=False)
    with pytest.raises(Misbehaved):
        session().check(target, outside)


def test_a_registry_that_wants_a_user_says_so(fake, session, run):
    async def handler(request):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    with pytest.raises(NoCredentials, match="no basic auth credentials"):
        scenario(fake, session, run, handler, lambda _, repository: repository.manifest("latest"))


@pytest.mark.row("REG-18")
def test_tokens_are_fetched_once_by_scope_and_renewed_with_an_identity_token(fake, session, run):
    asked = []

    async def handler(request):
        if request.path == "/token":
            form = dict((await request.post()).items())
            asked.append((request.method, form.get("refresh_token"), form.get("scope")))
            return web.Response(body=b'{"access_token": "t1", "expires_in": 300}')
        if request.headers.get("Authorization") != "Bearer t1":
            realm = f'Bearer realm="http://{request.host}/token",service="s",scope="repository:a/b:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        return web.Response(body=b"{}")

    async def go():
        async with fake(handler) as registry, session() as connections:
            repository = registry.repository(connections, identity_token="refresh")
            await repository.manifest("one")
            await repository.manifest("two")

    run(go())
    assert asked == [("POST", "refresh", "repository:a/b:pull")]


def test_error_texts_of_a_registry_are_bounded_and_printable(fake, session, run):
    async def handler(request):
        document = {"errors": [{"code": "UNSUPPORTED", "message": "\x1b[2J" + "x" * 100_000}]}
        return web.Response(status=400, body=json.dumps(document).encode())

    with pytest.raises(RegistryError) as caught:
        scenario(fake, session, run, handler, lambda _, repository: repository.manifest("latest"))
    assert len(str(caught.value)) <= 2000
    assert "\x1b" not in str(caught.value)
