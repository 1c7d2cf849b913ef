"""Pieces that are written in a thread of their own, and what is written out beside the work."""

from __future__ import annotations

import threading

import pytest

from boxship.images.streams import Aside, WritingOut


def test_pieces_are_written_in_order_before_finish_returns() -> None:
    written: list[bytes] = []
    with Aside(written.append) as aside:
        for number in range(100):
            aside.write(b"%d" % number)
        aside.finish()
        assert written == [b"%d" % number for number in range(100)]


def test_a_failure_is_raised_to_the_writer_and_never_blocks_it() -> None:
    def fail(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with Aside(fail) as aside, pytest.raises(OSError, match="No space left"):
        while True:
            aside.write(b"x")


def test_a_failure_of_the_last_piece_is_raised_by_finish() -> None:
    def fail(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with Aside(fail) as aside:
        aside.write(b"x")
        with pytest.raises(OSError, match="No space left"):
            aside.finish()


def test_what_waits_is_given_up_when_the_writer_leaves() -> None:
    leaving, written = threading.Event(), []

    class Watched(Aside):
        def _end(self) -> None:
            leaving.set()
            super()._end()

    def slow(piece: bytes) -> None:
        leaving.wait()
        written.append(piece)

    with pytest.raises(KeyError), Watched(slow) as aside:
        for _ in range(8):
            aside.write(bytes(Aside.AHEAD // 8))
        raise KeyError
    assert len(written) <= 1


def test_writing_out_begins_once_enough_is_there() -> None:
    called = threading.Event()
    writing_out = WritingOut(called.set)
    writing_out.wrote(WritingOut.STEP - 1)
    writing_out.close()
    assert not called.is_set()
    writing_out.wrote(1)
    writing_out.finish()
    assert called.is_set()


def test_what_writing_out_met_is_raised_at_the_end() -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    writing_out = WritingOut(fail)
    writing_out.wrote(WritingOut.STEP)
    writing_out.close()
    with pytest.raises(OSError, match="Input/output error"):
        writing_out.finish()
