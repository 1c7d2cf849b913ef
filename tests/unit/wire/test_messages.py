import os
import socket

import pytest

from boxship.wire import messages


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def same_file(left: int, right: int) -> bool:
    return os.path.samestat(os.fstat(left), os.fstat(right))


def test_a_message_arrives_with_its_version_and_its_descriptors(pair):
    left, right = pair
    with open(os.devnull) as file:
        messages.send(left, {"op": "shim"}, [file.fileno()])
        message, fds = messages.receive(right)
        assert message == {"v": messages.VERSION, "op": "shim"}
        assert len(fds) == 1
        assert same_file(fds[0], file.fileno())
        assert not os.get_inheritable(fds[0])
        messages.close_all(fds)


def test_an_end_between_messages_is_eof_and_one_inside_is_an_error(pair):
    left, right = pair
    messages.send(left, {})
    left.sendall(b"\0\0\0\x09{")
    left.close()
    assert messages.receive(right)[0] == {"v": 1}
    with pytest.raises(messages.MessageError, match="ended 1 bytes into"):
        messages.receive(right)
    with pytest.raises(EOFError):
        messages.receive(right)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 200_000, b'{"a":' + b"9" * 5000 + b"}", b"{}{}"]
)
def test_a_body_that_is_no_object_is_an_error(body):
    with pytest.raises(messages.MessageError):
        messages.Decoder().feed(len(body).to_bytes(4, "big") + body)


def test_a_length_above_the_limit_is_refused_before_its_body_comes(pair):
    left, right = pair
    left.sendall((messages.LIMIT + 1).to_bytes(4, "big"))
    with pytest.raises(messages.MessageError, match="above the limit"):
        messages.receive(right)
    with pytest.raises(messages.MessageError, match="above the limit"):
        messages.encode({"a": "x" * messages.LIMIT})


def test_the_decoder_takes_any_pieces():
    sent = [{"v": 1, "n": n, "text": "ä" * n} for n in range(5)]
    data = b"".join(map(messages.encode, sent))
    for size in range(1, len(data) + 1):
        decoder = messages.Decoder()
        got = [message for at in range(0, len(data), size) for message in decoder.feed(data[at : at + size])]
        assert got == sent
        decoder.finish()


def test_descriptors_go_to_the_message_they_were_sent_with(pair, tmp_path):
    left, right = pair
    files = [open(tmp_path / str(n), "w") for n in range(3)]
    messages.send(left, {"n": 0})
    messages.send(left, {"n": 1}, [files[0].fileno(), files[1].fileno()])
    messages.send(left, {"n": 2})
    messages.send(left, {"n": 3}, [files[2].fileno()])
    left.close()
    decoder = messages.Decoder()
    got = []
    while piece := messages.receive_some(right, 3):
        if not piece[0]:
            break
        got += decoder.feed_with_fds(*piece)
    assert [message["n"] for message, _ in got] == [0, 1, 2, 3]
    assert [len(fds) for _, fds in got] == [0, 2, 0, 1]
    assert same_file(got[3][1][0], files[2].fileno())
    for _, fds in got:
        messages.close_all(fds)
    for file in files:
        file.close()


def test_descriptors_of_an_unfinished_message_are_closed():
    fd = os.open(os.devnull, os.O_RDONLY)
    decoder = messages.Decoder()
    assert decoder.feed_with_fds(messages.encode({})[:-1], [fd]) == []
    with pytest.raises(messages.MessageError):
        decoder.finish()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_descriptors_before_a_bad_message_are_closed():
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    decoder = messages.Decoder()
    decoder.feed_with_fds(messages.encode({})[:3], fds[:1])
    with pytest.raises(messages.MessageError):
        decoder.feed_with_fds(messages.encode({})[3:] + b"\xff\xff\xff\xff", fds[1:])
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)
