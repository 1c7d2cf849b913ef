import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from boxship.snapshots.tar_reader import Entry, InvalidTar, Limits, TarReader, TarTooLarge, UnexpectedEnd

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def archive(*infos: tarfile.TarInfo, format: int = tarfile.PAX_FORMAT, data: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info in infos:
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def info(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def read(data: bytes, **limits: int) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(data), limits=Limits(**limits))
    return [(entry, b"".join(bytes(piece) for piece in reader.data())) for entry in reader]


def one(data: bytes) -> Entry:
    ((entry, _),) = read(data)
    return entry


@pytest.mark.parametrize("format", FORMATS)
def test_plain_files_are_read_in_every_format(format: int) -> None:
    data = archive(info("dir/file", mode=0o4751, uid=1000, gid=50, mtime=1234), format=format, data=b"x" * 1000)
    ((entry, content),) = read(data)
    assert (entry.name, entry.mode, entry.uid, entry.gid) == ("dir/file", 0o4751, 1000, 50)
    assert (entry.size, entry.mtime_ns, content) == (1000, 1234 * 10**9, b"x" * 1000)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_links_and_large_numbers_are_read(format: int) -> None:
    name, link = "n" * 300 + "/ü", "l" * 400
    entry = one(archive(info(name, type=tarfile.SYMTYPE, linkname=link, uid=2**31, gid=2**30), format=format))
    assert (entry.name, entry.linkname, entry.uid, entry.gid) == (name, link, 2**31, 2**30)


def test_a_ustar_prefix_is_joined() -> None:
    name = "p" * 120 + "/" + "n" * 90
    assert one(archive(info(name), format=tarfile.USTAR_FORMAT)).name == name


def test_names_that_are_no_utf8_survive() -> None:
    name = os.fsdecode(b"\xff\xfe/x")
    assert one(archive(info(name), format=tarfile.GNU_FORMAT)).name == name


@pytest.mark.parametrize(
    ("text", "expected"), [("1.5", 1500000000), ("-1.25", -1250000000), ("7", 7 * 10**9), ("2.", 2 * 10**9)]
)
def test_pax_times_have_nanoseconds(text: str, expected: int) -> None:
    assert one(archive(info("f", pax_headers={"mtime": text}))).mtime_ns == expected


def test_pax_attributes_are_bytes() -> None:
    made = info("f", pax_headers={"SCHILY.xattr.user.a": "b=c\n", "SCHILY.xattr.user.empty": ""})
    assert one(archive(made)).xattrs == {"user.a": b"b=c\n", "user.empty": b""}


def test_devices_have_numbers() -> None:
    entry = one(archive(info("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)))
    assert (entry.type, entry.major, entry.minor) == (b"3", 1, 3)


def test_an_old_archives_directory_is_known_by_its_slash() -> None:
    assert one(archive(info("d/", type=tarfile.AREGTYPE))).type == b"5"


def test_data_that_is_not_read_is_skipped() -> None:
    reader = TarReader(io.BytesIO(archive(info("a"), info("b"), data=b"x" * 5000)))
    assert [entry.name for entry in reader] == ["a", "b"]


def test_the_observer_sees_every_byte_once() -> None:
    seen: list[bytes] = []
    data = archive(info("a"), data=b"x" * 5000) + b"after the end"
    reader = TarReader(io.BytesIO(data), observe=seen.append)
    list(reader)
    reader.finish()
    assert b"".join(seen) == data
    assert reader.total == len(data)


def test_a_source_may_give_single_bytes() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    data = archive(info("n" * 200), info("b"), data=b"x" * 700)
    assert [entry.name for entry in TarReader(Slow(data))] == ["n" * 200, "b"]


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_an_archive_may_end_without_its_zero_blocks(blocks: int) -> None:
    data = archive(info("a"))[:512] + bytes(512 * blocks)
    assert [entry.name for entry, _ in read(data)] == ["a"]


def test_an_empty_stream_is_an_empty_archive() -> None:
    assert read(b"") == []


@pytest.mark.parametrize("length", [1, 511, 513, 1023, 1024 + 511])
def test_a_cut_stream_is_an_unexpected_end(length: int) -> None:
    data = archive(info("n" * 200, mode=0o644), data=b"x" * 1000)
    with pytest.raises(UnexpectedEnd, match="unexpected EOF"):
        read(data[:length])


def broken(start: int, value: bytes, *, checksum: bool = True) -> bytes:
    block = bytearray(archive(info("f", size=0))[:512])
    block[start : start + len(value)] = value
    if checksum:
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


@pytest.mark.parametrize(
    "data",
    [
        b"this is no tar archive at all" * 100,
        broken(0, b"x", checksum=False),
        broken(124, b"-0000000001\0"),
        broken(124, b"0000_000001\0"),
        broken(124, b"00000000009\0"),
        broken(124, b"+0000000001\0"),
        broken(124, b"\xff" * 12),
        broken(124, b"\x80" + b"\x7f" * 11),
        broken(108, b"\xff" * 8),
        bytes(512) + archive(info("f")),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidTar, match="archive/tar: invalid tar header"):
        read(data)


def pax(records: bytes) -> bytes:
    block = bytearray(archive(info("pax", type=b"x"), format=tarfile.USTAR_FORMAT)[:512])
    block[124:136] = b"%011o\0" % len(records)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + records + bytes(-len(records) % 512) + archive(info("f"), data=b"")


@pytest.mark.parametrize(
    "records",
    [
        b"no length\n",
        b"99 path=x\n",
        b"10 path=xy\n"[:-1] + b"x",
        b"3 \n",
        b"0 path=x\n",
        b"9 path=x\x00",
        b"12 path=a\0b\n",
        b"10 =value\n",
        b"10 size=-1\n",
        b"30 size=99999999999999999999\n",
        b"12 uid=1_0\n"[:11],
        b"999999999999999999999999999999 path=x\n",
    ],
)
def test_broken_pax_records_are_refused(records: bytes) -> None:
    with pytest.raises(InvalidTar):
        read(pax(records))


def test_an_empty_pax_value_takes_the_record_back() -> None:
    assert one(pax(b"9 path=x\n" + b"8 path=\n")).name == "f"


def test_an_extension_header_without_a_file_is_an_unexpected_end() -> None:
    with pytest.raises(UnexpectedEnd):
        read(pax(b"9 path=x\n")[:1024])


def test_global_headers_are_skipped() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as tar:
        tar.addfile(info("f"))
    assert one(data.getvalue()).name == "f"


@pytest.mark.parametrize(
    ("data", "limits", "text"),
    [
        (archive(*[info(str(n)) for n in range(11)]), {"entries": 10}, "more than 10 entries"),
        (archive(info("f"), data=b"x" * 9999), {"size": 5000}, "larger than 5000 bytes"),
        (archive(info("n" * 5000)), {}, "header field too long"),
        (archive(info("f", pax_headers={"comment": "x" * 2**21})), {}, "header field too long"),
    ],
)
def test_i3_limits_hold(data: bytes, limits: dict[str, int], text: str) -> None:
    with pytest.raises(InvalidTar, match=text):
        read(data, **limits)


@pytest.mark.parametrize("format", ["oldgnu", "gnu", "pax0.1", "pax1.0"])
@pytest.mark.parametrize("pieces", [0, 1, 3, 30])
def test_sparse_files_of_gnu_tar_are_read(tmp_path: Path, format: str, pieces: int) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for n in range(pieces):
            file.seek(n * 256 * 1024)
            file.write(bytes([n + 1]) * 4096)
        file.truncate(max(1, pieces) * 256 * 1024 + 5)
    kind = ["--format=pax", f"--sparse-version={format[3:]}"] if format.startswith("pax") else [f"--format={format}"]
    command = ["tar", "-S", *kind, "-C", str(tmp_path), "-cf", "-", "sparse"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    ((entry, content),) = read(data)
    assert entry.name == "sparse"
    assert entry.size == path.stat().st_size
    assert entry.sparse is not None
    rebuilt = bytearray(entry.size)
    for offset, length in entry.sparse:
        rebuilt[offset : offset + length], content = content[:length], content[length:]
    assert bytes(rebuilt) == path.read_bytes()


@pytest.mark.parametrize("map", [b"5,1,0,1", b"0,9999999", b"0,1,0,1", b"0", b"0,1,2", b"-1,1"])
def test_sparse_maps_that_lie_are_refused(map: bytes) -> None:
    headers = {"GNU.sparse.map": map.decode(), "GNU.sparse.size": "10", "GNU.sparse.numblocks": "1"}
    with pytest.raises(InvalidTar):
        read(archive(info("f", pax_headers=headers), data=b"ab"))


def test_a_sparse_bomb_is_refused() -> None:
    headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**60), "GNU.sparse.numblocks": "1"}
    with pytest.raises(TarTooLarge, match="sparse file"):
        read(archive(info("f", pax_headers=headers), data=b"a"))


def test_an_error_about_a_name_of_any_bytes_is_text() -> None:
    assert str(InvalidTar('invalid hardlink "/a\udcff"')) == 'invalid hardlink "/a�"'
