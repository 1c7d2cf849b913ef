import pytest

from boxship.wire import frames


@pytest.mark.row("API-08")
def test_a_frame_is_type_three_zeros_length_and_payload():
    assert frames.encode(frames.STDERR, b"hi") == b"\x02\0\0\0\0\0\0\x02hi"
    assert frames.header(frames.STDOUT, 1 << 20) == b"\x01\0\0\0\0\x10\0\0"


def test_the_decoder_takes_any_pieces():
    sent = [(1, b"one"), (2, b""), (2, b"two" * 9), (1, b"\0\n")]
    data = b"".join(frames.encode(*frame) for frame in sent)
    for size in range(1, len(data) + 1):
        decoder = frames.Decoder()
        streams = {1: b"", 2: b""}
        for at in range(0, len(data), size):
            for stream, payload in decoder.feed(data[at : at + size]):
                streams[stream] += payload
        decoder.finish()
        assert streams == {1: b"one\0\n", 2: b"two" * 9}


@pytest.mark.parametrize("head", [b"\x04\0\0\0\0\0\0\0", b"\x01\0\x01\0\0\0\0\0", b"\x01\0\0\0\xff\0\0\0"])
def test_a_header_that_is_none_is_an_error(head):
    with pytest.raises(frames.FrameError):
        frames.Decoder().feed(head)


@pytest.mark.parametrize("length", [3, 9])
def test_an_end_inside_a_frame_is_an_error(length):
    decoder = frames.Decoder()
    decoder.feed(frames.encode(1, b"abc")[:length])
    with pytest.raises(frames.FrameError):
        decoder.finish()
