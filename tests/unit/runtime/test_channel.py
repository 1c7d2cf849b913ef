import os

import pytest

from boxship.runtime import channel
from boxship.runtime.failure import RuntimeFailure


def test_a_message_arrives_with_its_descriptor() -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        channel.send(theirs, channel.CONSOLE, "text", fd=0)
        kind, text, fd = channel.expect(ours, channel.CONSOLE)
        assert (kind, text) == (channel.CONSOLE, "text")
        assert os.path.samestat(os.fstat(fd), os.fstat(0))
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_a_failure_is_raised_with_its_code() -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        channel.send(theirs, channel.FAILED, "127 not here: really")
        with pytest.raises(RuntimeFailure) as caught:
            channel.expect(ours, channel.READY)
    assert (caught.value.message, caught.value.code) == ("not here: really", 127)


def test_an_early_end_is_a_failure() -> None:
    ours, theirs = channel.pair()
    with ours:
        theirs.close()
        with pytest.raises(RuntimeFailure, match="killed before it could start"):
            channel.expect(ours, channel.READY)
        assert channel.receive(ours)[0] == channel.ENDED


def test_a_long_failure_is_cut_not_lost() -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        channel.send(theirs, channel.FAILED, "1 " + "x" * 100_000)
        with pytest.raises(RuntimeFailure, match="xxx"):
            channel.expect(ours, channel.READY)
