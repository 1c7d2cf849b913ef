"""Agents as steps may use them: two requests go through, and nothing that a program sends ends the engine's part."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from boxship.build.steps import agents
from boxship.build.steps.scratch import Scratch
from boxship.store import Store


def message(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


async def read(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    return await reader.readexactly(length)


class FakeAgent:
    """Answers each request with its bytes, reversed."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await read(reader)
                self.asked.append(request)
                writer.write(message(request[::-1]))
        except asyncio.IncompleteReadError:
            writer.close()


Talk = Callable[[str], Awaitable[None]]


def with_agent(tmp_path: Path, store: Store, talk: Talk) -> FakeAgent:
    """Let ``talk`` use a forwarded agent; look that nothing is left of it."""
    scratch = Scratch(str(tmp_path / ("long" * 30)), store)
    agent = FakeAgent()

    async def run() -> None:
        server = await asyncio.start_unix_server(agent.serve, str(tmp_path / "agent"))
        owner = (os.getuid(), os.getgid())
        async with agents.forwarded(str(tmp_path / "agent"), scratch, mode=0o640, owner=owner) as path:
            assert os.stat(path).st_mode & 0o777 == 0o640
            directory = os.open(os.path.dirname(path), os.O_PATH)
            try:
                await talk(f"/proc/self/fd/{directory}/agent")
            finally:
                os.close(directory)
        server.close()

    asyncio.run(run())
    assert os.listdir(scratch.space()) == []
    return agent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "db"))
    yield store
    store.close()


def test_only_lists_and_signatures_reach_the_agent(tmp_path: Path, store: Store) -> None:
    async def talk(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        for kind in (0, 1, 11, 13, 17, 18, 19, 20, 22, 23, 25, 26, 27, 255):
            writer.write(message(bytes([kind]) + b"rest"))
            passed = kind in (11, 13)
            assert await read(reader) == (b"tser" + bytes([kind]) if passed else b"\x05")
        writer.write(message(b""))
        assert await read(reader) == b"\x05"
        writer.close()

    assert with_agent(tmp_path, store, talk).asked == [b"\x0brest", b"\x0drest"]


@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", struct.pack(">I", 256 * 1024 + 1), b"\0\0"])
def test_what_is_no_message_ends_its_connection_alone(tmp_path: Path, store: Store, sent: bytes) -> None:
    async def talk(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(message(b"\x0b"))
        assert await read(reader) == b"\x0b"
        writer.close()

    with_agent(tmp_path, store, talk)


def test_an_agent_that_has_gone_is_a_connection_that_ends(tmp_path: Path, store: Store) -> None:
    async def talk(path: str) -> None:
        os.unlink(tmp_path / "agent")
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()

    with_agent(tmp_path, store, talk)


def test_more_connections_than_anybody_needs_are_closed(tmp_path: Path, store: Store) -> None:
    async def talk(path: str) -> None:
        opened = [await asyncio.open_unix_connection(path) for _ in range(64)]
        for reader, writer in opened:
            writer.write(message(b"\x0b"))
            assert await read(reader) == b"\x0b"
        reader, extra = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        for writer in (extra, *(writer for _, writer in opened)):
            writer.close()

    with_agent(tmp_path, store, talk)
