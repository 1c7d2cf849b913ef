"""Any bytes, in any pieces: the decoders answer or refuse, and what was encoded comes back."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from boxship.wire import detachkeys, frames, jsonlog, messages

CUTS = st.lists(st.integers(0, 400), max_size=20)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    out = []
    for cut in cuts:
        out.append(data[:cut])
        data = data[cut:]
    return [*out, data]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), CUTS)
def test_messages_refuse_with_one_error(data, cuts):
    decoder = messages.Decoder()
    try:
        for piece in pieces(data, cuts):
            assert all(isinstance(message, dict) for message in decoder.feed(piece))
        decoder.finish()
    except messages.MessageError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4), CUTS)
def test_messages_come_back(sent, cuts):
    decoder = messages.Decoder()
    data = b"".join(map(messages.encode, sent))
    got = [message for piece in pieces(data, cuts) for message in decoder.feed(piece)]
    assert got == [{"v": messages.VERSION, **message} for message in sent]
    decoder.finish()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), CUTS)
def test_frames_refuse_with_one_error(data, cuts):
    decoder = frames.Decoder()
    try:
        for piece in pieces(data, cuts):
            decoder.feed(piece)
        decoder.finish()
    except frames.FrameError:
        pass


TEXT = st.lists(
    st.binary(max_size=40)
    | st.text(max_size=40).map(str.encode)
    | st.sampled_from(
        [b"\n", b"\0", b"\\n", b'"', b"\r\n", "\u2028".encode(), b"\xe2\x80", b"x" * 20_000, "€".encode() * 9000]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(TEXT, CUTS)
def test_log_records_hold_the_text(data, cuts):
    encoder = jsonlog.Encoder("stdout")
    written = b"".join(encoder.encode(piece, 1) for piece in pieces(data, cuts)) + encoder.finish(1)
    lines = written.splitlines(keepends=True)
    got = jsonlog.parse_lines(lines)
    assert len(got) == len(lines)
    assert all(record.log.count(b"\n") == record.log.endswith(b"\n") for record in got)
    assert [json.loads(line)["stream"] for line in lines] == ["stdout"] * len(lines)
    text = b"".join(record.log for record in got)
    try:
        data.decode()
    except UnicodeDecodeError:
        assert text.count(b"\n") == data.count(b"\n")
        assert text.decode().replace("\ufffd", "") == data.decode("utf-8", "ignore").replace("\ufffd", "")
    else:
        assert text == data


@settings(max_examples=300, deadline=None)
@given(TEXT, CUTS)
def test_log_records_do_not_depend_on_the_reads(data, cuts):
    whole, cut = jsonlog.Encoder("stdout"), jsonlog.Encoder("stdout")
    expected = whole.encode(data, 1) + whole.finish(1)
    assert b"".join(cut.encode(piece, 1) for piece in pieces(data, cuts)) + cut.finish(1) == expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_reading_a_record_never_fails(line):
    record = jsonlog.parse(line)
    assert record is None or isinstance(record.log, bytes)


@settings(max_examples=300, deadline=None)
@given(JSON, JSON, JSON, JSON)
def test_reading_a_record_of_any_types_never_fails(log, stream, attrs, time):
    line = json.dumps({"log": log, "stream": stream, "attrs": attrs, "time": time}).encode()
    assert jsonlog.parse(line) is None or (isinstance(log, str) and isinstance(stream, str))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"b", b"c", b"ab", b"abc"]), max_size=10),
    st.sampled_from([b"ab", b"aab", b"abc", b"a"]),
)
def test_typed_bytes_pass_until_the_keys(typed, keys):
    matcher = detachkeys.Matcher(keys)
    passed = b""
    for piece in typed:
        out, detached = matcher.feed(piece)
        passed += out
        if detached:
            assert b"".join(typed).startswith(passed + keys)
            return
    assert passed + matcher.finish() == b"".join(typed)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_detach_keys_parse_or_refuse(text):
    try:
        assert detachkeys.parse(text)
    except detachkeys.UnknownKeyError as exc:
        assert exc.key in text
