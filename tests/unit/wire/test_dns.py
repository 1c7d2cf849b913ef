"""DNS messages, good ones and others."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from boxship.wire import dns

HEADER = struct.Struct("!HHHHHH")


def query(name: str, type: int = dns.A, *, edns: int | None = None, id: int = 7, flags: int = 0x0100) -> bytes:
    data = HEADER.pack(id, flags, 1, 0, 0, int(edns is not None)) + dns.write_name(name) + struct.pack("!HH", type, 1)
    return data if edns is None else data + b"\0" + struct.pack("!HHIH", dns.OPT, edns, 0x8000, 0)


def record(name: bytes, type: int, ttl: int, data: bytes) -> bytes:
    return name + struct.pack("!HHIH", type, 1, ttl, len(data)) + data


def reply(question: bytes, *answers: bytes, code: int = 0, authorities: tuple[bytes, ...] = ()) -> bytes:
    head = HEADER.pack(7, 0x8180 | code, 1, len(answers), len(authorities), 0)
    return head + question[12:] + b"".join(answers) + b"".join(authorities)


def test_a_query_is_read_with_its_name_in_lower_case() -> None:
    read = dns.Query(query("Www.Example.COM", dns.AAAA))
    assert (read.name, read.type, read.id, read.limit, read.edns) == ("www.example.com", dns.AAAA, 7, 512, False)


def test_edns_says_how_long_an_answer_may_be() -> None:
    read = dns.Query(query("a", edns=4000))
    assert (read.limit, read.edns, read.dnssec) == (4000, True, True)
    assert dns.Query(query("a", edns=100)).limit == 512


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(query("a")[:-1], id="cut off"),
        pytest.param(query("a", flags=0x8100), id="an answer"),
        pytest.param(HEADER.pack(1, 0, 2, 0, 0, 0) + query("a")[12:] * 2, id="two questions"),
        pytest.param(HEADER.pack(1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", id="a name that points to itself"),
        pytest.param(HEADER.pack(1, 0, 1, 0, 0, 0) + b"\1a\xc0\x0c\0\1\0\1", id="a loop"),
        pytest.param(HEADER.pack(1, 0, 1, 0, 0, 0) + b"\xc0\x20\0\1\0\1" + bytes(32), id="a name that points forward"),
        pytest.param(HEADER.pack(1, 0, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", id="a long name"),
        pytest.param(HEADER.pack(1, 0, 1, 0, 0, 0) + b"\x41a\0\0\1\0\1", id="a label of an unknown kind"),
        pytest.param(query("a", edns=512)[:-1] + b"\1", id="a record beyond the end"),
        pytest.param(
            query("a", edns=512)[:11] + b"\2" + query("a", edns=512)[12:] + query("b", edns=1)[-11:], id="two OPT"
        ),
    ],
)
def test_what_is_no_query_is_refused(data: bytes) -> None:
    with pytest.raises(dns.FormatError):
        dns.Query(data)


def test_a_name_may_point_back_and_only_so_often() -> None:
    chain = b"\1a\0" + b"".join(b"\xc0" + bytes([max(0, 2 * number + 1)]) for number in range(40))
    assert dns.read_name(b"\1a\0\1b\xc0\0", 3) == ("b.a", 7)
    with pytest.raises(dns.FormatError):
        dns.read_name(chain, len(chain) - 2)


def test_bytes_that_only_look_like_a_dot_make_another_name() -> None:
    assert dns.read_name(b"\3a.b\0", 0) == ("a\\046b", 5)
    assert dns.read_name(b"\2\xff\x00\0", 0)[0] == "\\255\\000"


def test_an_answer_says_when_not_all_found_place() -> None:
    asked = dns.Query(query("many.example"))
    records = [dns.Record(dns.A, bytes([10, 0, 0, number]), 600) for number in range(100)]
    answer = dns.answer(asked, dns.NOERROR, records, limit=asked.limit)
    assert len(answer) <= 512
    assert dns.is_truncated(answer)
    assert struct.unpack_from("!H", answer, 6)[0] == (512 - 12 - len(asked.question)) // 16
    assert not dns.is_truncated(dns.answer(asked, dns.NOERROR, records))


def test_an_unknown_version_of_edns_is_answered_with_the_extended_code() -> None:
    answer = dns.answer(dns.Query(query("a", edns=512)), dns.BADVERS)
    assert dns.code_of(answer) == 0
    assert answer[-6] == 1


def test_a_reply_counts_only_with_the_id_and_the_question() -> None:
    asked = dns.Query(query("Example.com"))
    good = reply(query("example.COM"), record(b"\xc0\x0c", dns.A, 5, b"\1\2\3\4"))
    assert dns.is_reply(asked, 7, good)
    assert not dns.is_reply(asked, 8, good)
    assert not dns.is_reply(asked, 7, reply(query("example.net")))
    assert not dns.is_reply(asked, 7, query("example.com"))
    assert not dns.is_reply(asked, 7, b"")
    assert dns.for_client(asked, good)[12 : 12 + len(asked.question)] == asked.question


def test_a_reply_lives_as_long_as_its_shortest_record() -> None:
    message = reply(
        query("a"), record(b"\xc0\x0c", dns.A, 300, b"\1\2\3\4"), record(b"\xc0\x0c", dns.A, 20, b"\1\2\3\5")
    )
    lifetime = dns.lifetime(message)
    assert lifetime.seconds == 20
    aged = dns.aged(message, lifetime.offsets, 50)
    assert [int.from_bytes(aged[at : at + 4], "big") for at in lifetime.offsets] == [250, 0]


def test_that_a_name_is_missing_holds_as_long_as_the_zone_says() -> None:
    soa = b"\0\0" + struct.pack("!IIIII", 1, 2, 3, 4, 17)
    zone = record(b"\xc0\x0c", dns.SOA, 900, soa)
    assert dns.lifetime(reply(query("a"), code=dns.NXDOMAIN, authorities=(zone,))).seconds == 17
    assert dns.lifetime(reply(query("a"), authorities=(zone,))).seconds == 17
    assert dns.lifetime(reply(query("a"), code=dns.NXDOMAIN)).seconds == 0
    assert dns.lifetime(reply(query("a"), code=dns.SERVFAIL, authorities=(zone,))).seconds == 0


def test_messages_of_a_stream_come_out_whole_and_in_order() -> None:
    buffer = bytearray()
    found = []
    for byte in dns.for_stream(b"first") + dns.for_stream(b"") + dns.for_stream(b"third") + b"\0":
        buffer.append(byte)
        found += list(dns.stream_messages(buffer))
    assert found == [b"first", b"", b"third"]
    assert buffer == b"\0"


@settings(deadline=None)
@given(st.binary(max_size=600))
@example(query("a.b.c", edns=1232))
@example(reply(query("a"), record(b"\xc0\x0c", dns.A, 20, b"\1\2\3\5")))
def test_no_bytes_raise_anything_but_a_format_error(data: bytes) -> None:
    for read in (dns.Query, dns.lifetime, lambda bytes_: dns.read_name(bytes_, 0)):
        with contextlib.suppress(dns.FormatError):
            read(data)
    dns.refusal(data, dns.FORMERR)
    dns.is_reply(dns.Query(query("a")), 1, data)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 650), st.integers(0, 255)), max_size=8), st.booleans())
def test_no_damaged_message_raises_anything_but_a_format_error(changes: list[tuple[int, int]], shorter: bool) -> None:
    data = bytearray(
        reply(
            query("www.example.com", edns=1232)[:-11],
            *(record(b"\3abc\xc0\x10", dns.A, 60, socket.inet_aton(f"10.0.0.{n}")) for n in range(20)),
        )
    )
    for at, value in changes:
        data[at % len(data)] = value
    damaged = bytes(data[: len(data) // 2] if shorter else data)
    with contextlib.suppress(dns.FormatError):
        lifetime = dns.lifetime(damaged)
        dns.aged(damaged, lifetime.offsets, 10)


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,20}){0,5}", fullmatch=True))
def test_a_name_written_is_read_again(name: str) -> None:
    assert dns.read_name(dns.write_name(name), 0) == (name, len(name) + 2)
