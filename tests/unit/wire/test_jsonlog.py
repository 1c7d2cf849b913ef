import json
import os

import pytest

from boxship.wire import jsonlog

TIME = 1_700_000_000_123_456_000  # 2023-11-14T22:13:20.123456Z
LIMIT = jsonlog.LINE_LIMIT


def records(data: bytes) -> list[jsonlog.Record]:
    lines = data.splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    parsed = jsonlog.parse_lines(lines)
    assert len(parsed) == len(lines)
    return parsed


def logs(data: bytes) -> list[bytes]:
    return [record.log for record in records(data)]


@pytest.mark.row("LOG-03")
def test_a_record_is_written_as_docker_writes_it():
    written = jsonlog.Encoder("stdout").encode(b"hello\nbye\n", TIME)
    assert written == (
        b'{"log":"hello\\n","stream":"stdout","time":"2023-11-14T22:13:20.123456Z"}\n'
        b'{"log":"bye\\n","stream":"stdout","time":"2023-11-14T22:13:20.123456Z"}\n'
    )


def test_attributes_stand_before_the_time():
    written = jsonlog.Encoder("stderr", {"tag": 'a"b'}).encode(b"x\n", TIME)
    assert written.startswith(b'{"log":"x\\n","stream":"stderr","attrs":{"tag":"a\\"b"},"time":"')
    assert records(written)[0].attrs == {"tag": 'a"b'}


@pytest.mark.row("LOG-01")
@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        (b'say "hi" \\ \\n', b'say \\"hi\\" \\\\ \\\\n'),
        (b"\0\t\r\x1b[0m\x7f", b"\\u0000\\u0009\\r\\u001b[0m\x7f"),
        (b"<a>&</a>", b"\\u003ca\\u003e\\u0026\\u003c/a\\u003e"),
        ("ä€😀".encode(), "ä€😀".encode()),
        ("a\u2028b\u2029".encode(), b"a\\u2028b\\u2029"),
        ("\ufffd".encode(), "\ufffd".encode()),
        (b"a\xffb\xe2\x82c", b"a\\ufffdb\\ufffd\\ufffdc"),
        (b"\xed\xa0\x80\xed\xb3\xbf\xc0\x80", b"\\ufffd" * 8),
        (b'\xff"<', b'\\ufffd\\"\\u003c'),
    ],
)
def test_escapes_are_those_of_go(raw, escaped):
    assert jsonlog.escape(raw) == escaped


def test_a_line_without_newline_waits_for_its_rest():
    encoder = jsonlog.Encoder("stdout")
    assert encoder.encode(b"na", TIME) == b""
    assert encoder.encode(b"me: ", TIME) == b""
    assert logs(encoder.encode(b"\nx", TIME)) == [b"name: \n"]
    assert logs(encoder.finish(TIME)) == [b"x"]
    assert encoder.finish(TIME) == b""


def test_utf8_split_across_reads_stays_whole():
    encoder = jsonlog.Encoder("stdout")
    text = "ä€😀\n".encode()
    written = b"".join(encoder.encode(text[at : at + 1], TIME) for at in range(len(text)))
    assert logs(written) == [text]


@pytest.mark.row("LOG-01")
@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (LIMIT - 1, [LIMIT]),
        (LIMIT, [LIMIT, 1]),
        (LIMIT + 1, [LIMIT, 2]),
        (LIMIT * 3 + 5, [LIMIT, LIMIT, LIMIT, 6]),
    ],
)
def test_a_long_line_is_split_at_16_kib(size, pieces):
    for step in (1000, LIMIT, 1 << 20):
        encoder = jsonlog.Encoder("stdout")
        raw = b"before\n" + b"x" * size + b"\nafter\n"
        written = b"".join(encoder.encode(raw[at : at + step], TIME) for at in range(0, len(raw), step))
        assert [len(log) for log in logs(written)] == [7, *pieces, 6]
        assert b"".join(logs(written)) == raw


def test_the_pieces_of_a_long_line_share_the_first_one_s_time():
    encoder = jsonlog.Encoder("stdout")
    written = encoder.encode(b"x" * LIMIT, 1) + encoder.encode(b"x" * LIMIT, 2) + encoder.encode(b"\ny\n", 3)
    assert [record.time_ns for record in records(written)] == [1, 1, 1, 3]


def test_a_long_line_is_not_cut_inside_a_character():
    raw = b"x" * (LIMIT - 1) + "€".encode() * 9000 + b"\n"
    written = jsonlog.Encoder("stdout").encode(raw, TIME)
    assert b"".join(logs(written)) == raw
    assert all(len(log) <= LIMIT for log in logs(written))


def test_pieces_of_any_size_give_the_same_text():
    raw = b"".join(os.urandom(7).hex().encode() * (n * 97 % 3000) + b"\n" for n in range(60)) + b"end"
    for step in (1, 63, 4096, 65536):
        encoder = jsonlog.Encoder("stdout")
        written = b"".join(encoder.encode(raw[at : at + step], TIME) for at in range(0, len(raw), step))
        assert b"".join(logs(written + encoder.finish(TIME))) == raw


def test_records_are_json_for_other_readers():
    raw = bytes(range(256)) + b"\n"
    written = jsonlog.Encoder("stdout").encode(raw, TIME)
    assert [json.loads(line)["stream"] for line in written.splitlines()] == ["stdout"] * 2


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"[]",
        b'{"log":"x"}',
        b'{"log":1,"time":"2023-11-14T22:13:20Z"}',
        b'{"log":"x","time":"yesterday"}',
        b'{"log":"x","time":1}',
        b'{"log":"x","stream":"stdout","time":"2023-11-14T22:1',
        b"[" * 100_000,
    ],
)
def test_a_torn_record_is_none(line):
    assert jsonlog.parse(line) is None


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20.123456Z", TIME),
        ("2024-02-29T23:59:59.999999999Z", 1_709_251_199_999_999_999),
        ("2000-03-01T00:00:00.1Z", 951_868_800_100_000_000),
    ],
)
def test_times_are_read_to_the_nanosecond(text, time_ns):
    assert jsonlog.parse_time(text) == time_ns


@pytest.mark.parametrize(
    "text", ["", "2023-11-14", "2023-11-14T22:13:20", "2023-11-14T22:13:20+01:00", "2023-11-14T22:13:20.Z0Z"]
)
def test_other_times_are_refused(text):
    with pytest.raises(ValueError):
        jsonlog.parse_time(text)
