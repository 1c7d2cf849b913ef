"""Attach, exec, logs, stats, export, events: streams over real sockets."""

import asyncio
import contextlib
import gc
import socket
import struct
from pathlib import Path

import pytest

from boxship.api.backend import AttachOptions, EventQuery, LogQuery
from boxship.base.errors import Conflict, NotFound, SystemFailure
from boxship.spec.docker.container import ExecConfig, ExecStart
from boxship.spec.docker.system import EventActor, EventMessage

UPGRADE = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"


def frame(stream, payload):
    return struct.pack(">BxxxI", stream, len(payload)) + payload


class Session:
    """Echoes what the client sends as output, until the client's end."""

    def __init__(self, *, multiplexed=True, error=None):
        self.multiplexed = multiplexed
        self.error = error
        self.abandoned = False

    async def serve(self, stream):
        if self.error is not None:
            raise self.error
        sock = socket.socket(fileno=stream.detach())
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock)
        data = stream.leftover + await reader.read()
        writer.write(frame(1, data) if self.multiplexed else data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def abandon(self):
        self.abandoned = True


async def talk(path, request, data=b""):
    """Send a request with input right behind it, half-close, and return head and rest of the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request + data)
    writer.write_eof()
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    rest = await reader.read()
    writer.close()
    return head, rest


@pytest.mark.row("API-08")
@pytest.mark.parametrize(
    ("version", "multiplexed", "content_type"),
    [
        ("1.41", True, "application/vnd.docker.raw-stream"),
        ("1.42", True, "application/vnd.docker.multiplexed-stream"),
        ("1.42", False, "application/vnd.docker.raw-stream"),
    ],
)
def test_attach(api, recorder, version, multiplexed, content_type):
    async def main():
        backend = recorder(attach=Session(multiplexed=multiplexed))
        request = f"POST /v{version}/containers/a/attach?stdin=1&stdout=1&stream=1&detachKeys=ctrl-x HTTP/1.1\r\n"
        async with api(containers=backend) as (_, path):
            head, rest = await talk(path, request.encode() + UPGRADE + b"\r\n", b"hello")
        assert head.startswith(f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\n")
        assert "Api-Version: 1.56\r\n" in head
        assert rest == (frame(1, b"hello") if multiplexed else b"hello")
        options = AttachOptions(stdin=True, stdout=True, stream=True, detach_keys="ctrl-x")
        assert backend.calls == [("attach", ("a", options), {})]

    asyncio.run(main())


@pytest.mark.parametrize(
    "error", [NotFound("No such container: a"), Conflict("You cannot attach to a stopped container")]
)
def test_attach_fails_as_http_before_the_connection_is_taken(ask, recorder, error):
    answer = ask(
        "POST",
        "/containers/a/attach?stream=1",
        headers={"Connection": "Upgrade", "Upgrade": "tcp"},
        containers=recorder(attach=error),
    )
    assert answer.body == {"message": str(error)}


def test_an_error_after_the_head_is_written_into_the_stream(api, recorder):
    async def main():
        backend = recorder(attach=Session(error=SystemFailure("it broke")))
        async with api(containers=backend) as (_, path):
            _, rest = await talk(path, b"POST /containers/a/attach HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        assert rest == frame(2, b"it broke\r\n")

    asyncio.run(main())


@pytest.mark.row("API-10")
def test_exec_start(api, recorder):
    body = b'{"Detach":false,"Tty":true,"ConsoleSize":[10,20]}'
    request = b"POST /exec/e/start HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)

    async def main():
        backend = recorder(start=Session(multiplexed=False))
        async with api(execs=backend) as (_, path):
            head, rest = await talk(path, request + UPGRADE + b"\r\n" + body, b"input")
        assert head.startswith("HTTP/1.1 101 UPGRADED")
        assert rest == b"input"
        assert backend.calls == [("start", ("e", ExecStart(tty=True, console_size=[10, 20])), {})]

    asyncio.run(main())


@pytest.mark.row("API-10")
def test_exec_calls(ask, recorder):
    backend = recorder(create="e1", start=None, resize=None)
    created = ask("POST", "/containers/a/exec", json={"Cmd": "ls", "Tty": True}, execs=backend)
    assert (created.status, created.body) == (201, {"Id": "e1"})
    assert backend.calls == [("create", ("a", ExecConfig(cmd=["ls"], tty=True)), {})]
    detached = ask("POST", "/exec/e1/start", json={"Detach": True}, execs=backend)
    assert (detached.status, detached.text) == (200, "")
    assert ask("POST", "/exec/e1/resize?h=1&w=2", execs=backend).status == 200
    refused = ask("POST", "/containers/a/exec", json={"Cmd": []}, execs=backend)
    assert (refused.status, refused.body) == (400, {"message": "no exec command specified"})


@pytest.mark.row("API-08")
@pytest.mark.parametrize("multiplexed", [True, False])
def test_attach_by_websocket_carries_bare_bytes(api, recorder, multiplexed):
    class Once(Session):
        async def serve(self, stream):
            sock = socket.socket(fileno=stream.detach())
            sock.setblocking(False)
            data = await asyncio.get_running_loop().sock_recv(sock, 100)
            sock.send(frame(1, data) + frame(2, b"!") if self.multiplexed else data + b"!")
            sock.close()

    async def main():
        url = "http://x/containers/a/attach/ws?stream=1"
        backend = recorder(attach=Once(multiplexed=multiplexed))
        async with api(containers=backend) as (client, _), client.ws_connect(url) as websocket:
            await websocket.send_bytes(b"hello")
            assert b"".join([message.data async for message in websocket]) == b"hello!"

    asyncio.run(main())


def test_a_websocket_client_that_leaves_ends_its_session(api, recorder):
    async def main():
        ended = asyncio.Event()

        class Waiting(Session):
            async def serve(self, stream):
                sock = socket.socket(fileno=stream.detach())
                sock.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b""
                sock.close()
                ended.set()

        async with api(containers=recorder(attach=Waiting())) as (client, _):
            async with client.ws_connect("http://x/containers/a/attach/ws?stream=1"):
                pass
            await ended.wait()

    asyncio.run(main())


@pytest.mark.row("API-22")
def test_rude_attach_clients_leave_no_descriptor(api, recorder):
    async def main():
        backend = recorder(attach=lambda ref, options: _give(Session()))
        async with api(containers=backend) as (_, path):

            async def rude(step):
                reader, writer = await asyncio.open_unix_connection(path)
                request = b"POST /containers/a/attach HTTP/1.1\r\n" + UPGRADE + b"\r\n"
                writer.write(request[: step * 20])
                if step * 20 >= len(request):
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(b"x" * 300_000)
                writer.transport.abort()

            async def settled():
                while len(asyncio.all_tasks()) > 1:
                    await asyncio.sleep(0.001)

            await rude(10)
            await settled()
            gc.collect()  # what earlier tests left behind is not this one's
            before = len(list(Path("/proc/self/fd").iterdir()))
            for step in range(100):
                await rude(step % 11)
            await settled()
            assert len(list(Path("/proc/self/fd").iterdir())) == before

    asyncio.run(main())


class Log:
    """A log stream over given chunks; remembers that it was closed."""

    def __init__(self, chunks, *, multiplexed=True, endless=False):
        self.multiplexed = multiplexed
        self.chunks = chunks
        self.endless = endless
        self.closed = asyncio.Event()

    async def __aiter__(self):
        for chunk in self.chunks:
            yield chunk
        if self.endless:
            await asyncio.Future()

    async def aclose(self):
        self.closed.set()


@pytest.mark.row("API-09")
@pytest.mark.parametrize(
    ("version", "multiplexed", "content_type"),
    [
        ("1.41", True, "application/vnd.docker.raw-stream"),
        ("1.50", True, "application/vnd.docker.multiplexed-stream"),
        ("1.50", False, "application/vnd.docker.raw-stream"),
    ],
)
def test_logs(ask, recorder, version, multiplexed, content_type):
    log = Log([b"one", b"two"], multiplexed=multiplexed)
    backend = recorder(logs=lambda ref, query: _give(log))
    answer = ask(
        "GET",
        f"/v{version}/containers/a/logs?stdout=1&since=1.5&until=2&tail=10&timestamps=1",
        containers=backend,
    )
    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (200, "onetwo", content_type)
    wanted = LogQuery(stdout=True, stderr=False, since=1_500_000_000, until=2_000_000_000, tail=10, timestamps=True)
    assert backend.calls == [("logs", ("a", wanted), {})]
    assert log.closed.is_set()


@pytest.mark.row("API-22")
def test_followed_logs_end_when_the_client_leaves(api, recorder):
    async def main():
        log = Log([b"one"], endless=True)
        async with api(containers=recorder(logs=lambda ref, query: _give(log))) as (_, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /containers/a/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"one")
            writer.close()
            await log.closed.wait()

    asyncio.run(main())


async def _give(value):
    return value


async def _all(items, error=None):
    for item in items:
        yield item
    if error is not None:
        raise error


@pytest.mark.row("API-11")
def test_stats_are_one_json_object_a_line(ask, recorder):
    backend = recorder(stats=lambda ref, **options: _all([b'{"read":1}', b'{"read":2}']))
    answer = ask("GET", "/containers/a/stats", containers=backend)
    assert answer.text == '{"read":1}\n{"read":2}\n'
    assert backend.calls == [("stats", ("a",), {"stream": True, "one_shot": False})]


def test_a_single_answer_of_stats_is_the_first_document(ask, recorder):
    backend = recorder(stats=lambda ref, **options: _all([b'{"read":1}', b'{"read":2}']))
    answer = ask("GET", "/containers/a/stats?stream=false&one-shot=true", containers=backend)
    assert answer.body == {"read": 1}
    assert backend.calls == [("stats", ("a",), {"stream": False, "one_shot": True})]


def test_stats_of_all_containers_are_an_array_a_line(ask, recorder):
    backend = recorder(stats_of_all=lambda **options: _all([b"[1,2]", b"[3]"]))
    assert ask("GET", "/boxship/stats?all=1&stream=1", containers=backend).text == "[1,2]\n[3]\n"
    assert ask("GET", "/boxship/stats", containers=backend).body == [1, 2]
    assert [options for _, _, options in backend.calls] == [
        {"stopped_too": True, "stream": True},
        {"stopped_too": False, "stream": False},
    ]


def test_stats_of_an_unknown_container_are_a_404(ask, recorder):
    backend = recorder(stats=lambda ref, **options: _all([], NotFound("No such container: a")))
    answer = ask("GET", "/containers/a/stats", containers=backend)
    assert (answer.status, answer.body) == (404, {"message": "No such container: a"})


@pytest.mark.row("API-11")
def test_export_is_a_tar(ask, recorder):
    answer = ask("GET", "/containers/a/export", containers=recorder(export=lambda ref: _give(_all([b"a", b"b"]))))
    assert (answer.text, answer.headers["Content-Type"]) == ("ab", "application/x-tar")


@pytest.mark.parametrize("error", [SystemFailure("disk"), ZeroDivisionError("bug")])
def test_a_stream_that_fails_is_cut_and_never_looks_whole(api, recorder, error):
    async def main():
        backend = recorder(export=lambda ref: _give(_all([b"part"], error)))
        async with api(containers=backend) as (_, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /containers/a/export HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                received = await reader.read()
                assert received.count(b"HTTP/1.1") <= 1
                assert not received.endswith(b"0\r\n\r\n")
            writer.close()

    asyncio.run(main())


def event(action):
    return EventMessage(
        status=action,
        id="c",
        type="container",
        action=action,
        actor=EventActor(id="c"),
        time=1,
        time_nano=1_000_000_001,
    )


@pytest.mark.row("API-04")
@pytest.mark.parametrize(
    ("path", "accept", "content_type", "first"),
    [
        ("/v1.51/events", "", "application/json", b'{"status":"start","id":"c","Type":"container"'),
        ("/events", "", "application/jsonl", b'{"Type":"container"'),
        ("/events", "application/x-ndjson", "application/x-ndjson", b'{"Type":"container"'),
        ("/events", "application/json-seq;q=1", "application/json-seq", b'\x1e{"Type":"container"'),
    ],
)
def test_events(api, recorder, path, accept, content_type, first):
    async def main():
        backend = recorder(events=lambda query: _all([event("start"), event("die")]))
        async with api(system=backend) as (client, _):
            url = f'http://x{path}?since=1&until=2.5&filters={{"type":["container"]}}'
            async with client.get(url, headers={"Accept": accept}) as answer:
                assert answer.content_type == content_type
                lines = (await answer.read()).splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(first)
        wanted = EventQuery(since=10**9, until=2_500_000_000, filters={"type": ["container"]})
        assert backend.calls == [("events", (wanted,), {})]

    asyncio.run(main())


@pytest.mark.row("API-22")
def test_many_idle_streams_do_not_hold_up_other_calls(api, recorder):
    async def endless(query):
        await asyncio.Future()
        yield

    async def main():
        async with api(system=recorder(events=endless)) as (client, path):
            writers = []
            for _ in range(200):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                writers.append(writer)
            async with client.get("http://x/_ping") as answer:
                assert await answer.text() == "OK"
            for writer in writers:
                writer.close()

    asyncio.run(main())
