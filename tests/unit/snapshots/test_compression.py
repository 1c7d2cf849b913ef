import bz2
import gzip
import hashlib
import io
import lzma
import os
from collections.abc import Callable

import pytest
import zstandard

from boxship.snapshots.compression import CompressionBomb, Decompressed, GzipWriter, InvalidCompression, detect

DATA = os.urandom(100_000) + b"repeated" * 300_000
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
KINDS = pytest.mark.parametrize("kind", list(COMPRESS))


def read(data: bytes, **limits: int) -> bytes:
    reader = Decompressed(io.BytesIO(data), **limits)
    pieces = []
    while piece := reader.read(70_000):
        assert len(piece) <= 70_000
        pieces.append(piece)
    return b"".join(pieces)


@KINDS
def test_each_compression_is_recognised_and_undone(kind: str) -> None:
    data = COMPRESS[kind](DATA)
    assert detect(data[:6]) == Decompressed(io.BytesIO(data)).name == kind
    assert read(data) == DATA


@pytest.mark.parametrize("data", [b"", b"x", b"plain text", b"\x1f\x8b", DATA])
def test_other_bytes_pass_unchanged(data: bytes) -> None:
    assert Decompressed(io.BytesIO(data)).name == ""
    assert read(data) == data


@KINDS
def test_a_source_may_give_single_bytes(kind: str) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    reader = Decompressed(Slow(COMPRESS[kind](b"hello" * 100)))
    assert b"".join(iter(lambda: reader.read(64), b"")) == b"hello" * 100


@KINDS
def test_members_after_one_another_are_one_stream(kind: str) -> None:
    assert read(COMPRESS[kind](b"one") + COMPRESS[kind](b"two") + bytes(8)) == b"onetwo"


@KINDS
def test_a_cut_stream_is_an_unexpected_end(kind: str) -> None:
    data = COMPRESS[kind](DATA)
    for cut in (len(data) - 1, len(data) // 2, 20):
        with pytest.raises(InvalidCompression, match="unexpected EOF"):
            read(data[:cut])


@KINDS
def test_i3_rubbish_after_the_end_is_refused(kind: str) -> None:
    with pytest.raises(InvalidCompression, match="invalid header"):
        read(COMPRESS[kind](b"one") + b"rubbish")


@KINDS
def test_damaged_data_are_refused(kind: str) -> None:
    data = bytearray(COMPRESS[kind](DATA))
    for place in range(len(data) // 2, len(data) // 2 + 64):
        data[place] ^= 0xFF
    with pytest.raises(InvalidCompression):
        read(bytes(data))


@KINDS
def test_i3_a_bomb_is_stopped_by_its_size(kind: str) -> None:
    with pytest.raises(CompressionBomb, match="larger than 1000000 bytes"):
        read(COMPRESS[kind](bytes(5_000_000)), limit=1_000_000)


@pytest.mark.parametrize("kind", ["zstd", "bzip2"])
def test_i3_a_bomb_is_stopped_by_its_ratio(kind: str) -> None:
    with pytest.raises(CompressionBomb, match="grows more than"):
        read(COMPRESS[kind](bytes(200_000_000)))


def test_what_gzip_can_do_at_most_is_no_bomb() -> None:
    assert len(read(gzip.compress(bytes(100_000_000), 9))) == 100_000_000


def test_a_stream_that_wants_too_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    data = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InvalidCompression):
        read(data.compress(b"x" * 1000) + data.flush())


def test_compressing_gives_equal_bytes_that_gzip_can_read() -> None:
    made = []
    for _ in range(2):
        out = io.BytesIO()
        writer = GzipWriter(out)
        for start in range(0, len(DATA), 65536):
            writer.write(DATA[start : start + 65536])
        writer.finish()
        made.append(out.getvalue())
    assert made[0] == made[1]
    assert gzip.decompress(made[0]) == DATA


def test_equal_bytes_give_equal_gzip_whatever_pieces_they_come_in() -> None:
    data = b"".join(hashlib.sha256(b"%d" % (number // 3)).hexdigest().encode() for number in range(20_000))

    def compressed(size: int) -> bytes:
        out = io.BytesIO()
        writer = GzipWriter(out)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
        writer.finish()
        return out.getvalue()

    whole = compressed(len(data))
    assert gzip.decompress(whole) == data
    assert {compressed(size) for size in (777, 65_536, 262_144, 300_001, 1 << 20)} == {whole}
