import asyncio
import gzip
import os
from types import SimpleNamespace

import pytest

from boxship.logs.jsonfile import JsonFileReader, render
from boxship.wire import frames, jsonlog

SECOND = 1_000_000_000


def query(**fields):
    defaults = {"stdout": True, "stderr": True, "follow": False, "since": 0, "until": 0, "tail": -1}
    return SimpleNamespace(**{**defaults, **fields})


def lines(first: int, last: int, stream: str = "stdout") -> bytes:
    """Records whose text is their number and whose time is that many seconds."""
    encoder = jsonlog.Encoder(stream)
    return b"".join(encoder.encode(b"%d\n" % number, number * SECOND) for number in range(first, last + 1))


def numbers(records) -> list[int]:
    return [int(record.log) for record in records]


def read(reader, **fields) -> list[jsonlog.Record]:
    async def collect():
        return [record async for batch in reader.read(query(**fields), ended=asyncio.Event()) for record in batch]

    return asyncio.run(collect())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c-json.log"


def rotated(path, *, packed: bool) -> JsonFileReader:
    """Records 1 to 50 in five files."""
    for number, first in ((4, 1), (3, 11), (2, 21), (1, 31)):
        data = lines(first, first + 9)
        if packed:
            path.with_name(f"{path.name}.{number}.gz").write_bytes(gzip.compress(data))
        else:
            path.with_name(f"{path.name}.{number}").write_bytes(data)
    path.write_bytes(lines(41, 50))
    return JsonFileReader(str(path), max_file=5)


@pytest.mark.row("LOG-02", "LOG-04")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("tail", [-1, 0, 1, 9, 10, 11, 25, 40, 50, 1000])
def test_the_last_lines_are_found_across_files(path, packed, tail):
    wanted = list(range(1, 51)) if tail < 0 else list(range(1, 51))[-tail:] if tail else []
    assert numbers(read(rotated(path, packed=packed), tail=tail)) == wanted


@pytest.mark.row("LOG-02")
def test_time_bounds_include_their_ends(path):
    reader = rotated(path, packed=False)
    assert numbers(read(reader, since=20 * SECOND, until=23 * SECOND)) == [20, 21, 22, 23]
    assert numbers(read(reader, since=20 * SECOND + 1, until=23 * SECOND - 1)) == [21, 22]
    assert numbers(read(reader, tail=3, since=49 * SECOND)) == [49, 50]


@pytest.mark.row("LOG-02")
def test_streams_are_chosen_after_the_last_lines(path):
    path.write_bytes(lines(1, 5) + lines(6, 8, "stderr"))
    reader = JsonFileReader(str(path))
    assert numbers(read(reader, stdout=False)) == [6, 7, 8]
    assert numbers(read(reader, stderr=False, tail=4)) == [5]
    assert read(reader, stdout=False, stderr=False) == []


def test_long_and_short_lines_are_found_from_the_end(path):
    encoder = jsonlog.Encoder("stdout")
    raw = [b"x" * size + b"\n" for size in (70_000, 0, 1, 16_000, 65_536, 3)]
    path.write_bytes(b"".join(encoder.encode(line, 1) for line in raw))
    everything = read(JsonFileReader(str(path)))
    assert b"".join(record.log for record in everything) == b"".join(raw)
    for tail in range(1, len(everything) + 1):
        assert read(JsonFileReader(str(path)), tail=tail) == everything[-tail:]


def test_torn_and_foreign_lines_are_passed_over(path):
    good = lines(1, 2)
    path.write_bytes(good[: len(good) // 2 + 20] + b"\n" + b"garbage\n\0\0\0\n[]\n" + lines(3, 4) + good[:30])
    assert numbers(read(JsonFileReader(str(path)))) == [1, 3, 4]
    assert numbers(read(JsonFileReader(str(path)), tail=2)) == [3, 4]


def test_a_damaged_archive_gives_what_can_be_read(path):
    packed = gzip.compress(lines(1, 20000))
    path.with_name(f"{path.name}.1.gz").write_bytes(packed[: len(packed) // 2])
    path.write_bytes(lines(20001, 20002))
    got = numbers(read(JsonFileReader(str(path), max_file=2)))
    assert got == [*range(1, len(got) - 1), 20001, 20002]
    assert len(got) > 1000


def test_no_log_is_empty(path):
    assert read(JsonFileReader(str(path))) == []


class Follower:
    """Follows a log in the background and collects the numbers."""

    def __init__(self, path, *, max_file: int = 1, **fields) -> None:
        self.ended = asyncio.Event()
        self.numbers: list[int] = []
        self._more = asyncio.Event()
        self._reader = JsonFileReader(str(path), max_file=max_file)
        self._query = query(follow=True, **fields)
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async for batch in self._reader.read(self._query, ended=self.ended):
            assert batch
            self.numbers += numbers(batch)
            self._more.set()

    async def wait_for(self, last: int) -> None:
        while not self.numbers or self.numbers[-1] < last:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 20)

    async def finish(self) -> list[int]:
        self.ended.set()
        await asyncio.wait_for(self.task, 20)
        return self.numbers


def append(path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.row("LOG-02")
def test_following_sees_what_is_written_until_the_end(path):
    async def scenario():
        path.write_bytes(lines(1, 3))
        follower = Follower(path, tail=1)
        await follower.wait_for(3)
        append(path, lines(4, 4))
        await follower.wait_for(4)
        half = lines(5, 5)
        append(path, half[:20])
        append(path, half[20:])
        await follower.wait_for(5)
        append(path, lines(6, 7))
        return await follower.finish()

    assert asyncio.run(scenario()) == [3, 4, 5, 6, 7]


def test_following_begins_before_the_log_exists(path):
    async def scenario():
        follower = Follower(path)
        await asyncio.sleep(0)
        path.write_bytes(lines(1, 2))
        return await follower.finish()

    assert asyncio.run(scenario()) == [1, 2]


def rotate(path, max_file: int, *, packed: bool) -> None:
    """Rotate as the shim does."""
    suffix = ".gz" if packed else ""
    for number in range(max_file - 1, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}{suffix}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number}{suffix}"))
    if max_file > 1:
        first = path.with_name(f"{path.name}.1")
        path.rename(first)
        if packed:
            temporary = path.with_name("tmp")
            temporary.write_bytes(gzip.compress(first.read_bytes()))
            temporary.rename(path.with_name(f"{path.name}.1.gz"))
            first.unlink()
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(b"")
    fresh.rename(path)


@pytest.mark.row("LOG-04")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rotations", [1, 3])
def test_following_goes_across_rotations(path, packed, rotations):
    async def scenario():
        path.write_bytes(lines(1, 5))
        follower = Follower(path, max_file=6)
        await follower.wait_for(5)
        append(path, lines(6, 9))  # perhaps not read before the rotation
        for number in range(rotations):
            rotate(path, 6, packed=packed)
            append(path, lines(10 + number * 10, 19 + number * 10))
        return await follower.finish()

    assert asyncio.run(scenario()) == list(range(1, 10 + rotations * 10))


def test_following_a_log_that_keeps_one_file_goes_on_with_the_new_one(path):
    async def scenario():
        path.write_bytes(lines(1, 5))
        follower = Follower(path)
        await follower.wait_for(5)
        rotate(path, 1, packed=False)
        append(path, lines(6, 9))
        return await follower.finish()

    assert asyncio.run(scenario()) == list(range(1, 10))


def test_following_ends_at_its_time_bound(path):
    async def scenario():
        path.write_bytes(lines(1, 9))
        follower = Follower(path, until=5 * SECOND)
        await asyncio.wait_for(follower.task, 20)
        return follower.numbers

    assert asyncio.run(scenario()) == [1, 2, 3, 4, 5]


def test_a_reader_that_leaves_holds_nothing(path):
    async def scenario():
        path.write_bytes(lines(1, 5))
        before = len(os.listdir("/proc/self/fd"))
        follower = Follower(path)
        await follower.wait_for(5)
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)
        return before, len(os.listdir("/proc/self/fd"))

    before, after = asyncio.run(scenario())
    assert after == before


RECORDS = [
    jsonlog.Record("stdout", 1_700_000_000_120_000_000, b"out\n", {"b": "x y", "a": "1&2"}),
    jsonlog.Record("stderr", 0, b"part", {}),
]


@pytest.mark.row("API-09")
def test_records_are_framed_by_stream():
    data = render(RECORDS, timestamps=False, details=False, multiplexed=True)
    assert frames.Decoder().feed(data) == [(frames.STDOUT, b"out\n"), (frames.STDERR, b"part")]


@pytest.mark.row("LOG-02")
def test_times_and_details_stand_before_the_line():
    data = render(RECORDS, timestamps=True, details=True, multiplexed=False)
    assert data == (b"2023-11-14T22:13:20.120000000Z a=1%262,b=x+y out\n" + b"1970-01-01T00:00:00.000000000Z  part")
