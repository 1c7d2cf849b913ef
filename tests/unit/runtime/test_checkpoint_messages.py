"""Requests to CRIU's worker and its answers, byte by byte as its protocol has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.runtime.checkpoints import messages

pytestmark = pytest.mark.row("RUN-50")


def test_a_request_holds_its_kind_and_options() -> None:
    data = messages.request(messages.DUMP, {"pid": 300, "leave_running": True, "log_file": "dump.log"})
    options = b"\x10\xac\x02" + b"\x18\x01" + b"\x52\x08dump.log"
    assert data == b"\x08\x01" + b"\x12" + bytes([len(options)]) + options


def test_lists_are_repeated_fields() -> None:
    data = messages.request(messages.RESTORE, {"external": ["mnt[/a]:/b", "x"], "inherit_fd": [("pipe:[7]", 4)]})
    external = b"\xaa\x02\x0amnt[/a]:/b" + b"\xaa\x02\x01x"
    inherited = b"\xda\x01\x0c" + b"\x0a\x08pipe:[7]" + b"\x10\x04"
    assert data == b"\x08\x02\x12" + bytes([len(external + inherited)]) + external + inherited


def test_an_answer_to_a_step_holds_whether_to_go_on() -> None:
    assert messages.confirmation(True) == b"\x08\x06\x18\x01"
    assert messages.confirmation(False) == b"\x08\x06\x18\x00"


def test_a_step_is_understood() -> None:
    notify = b"\x0a\x0cpost-restore" + b"\x10\xac\x02"
    answer = messages.response(b"\x08\x06\x10\x01" + b"\x2a" + bytes([len(notify)]) + notify)
    assert (answer.kind, answer.success, answer.script, answer.pid) == (messages.NOTIFY, True, "post-restore", 300)


def test_a_restore_tells_its_process() -> None:
    answer = messages.response(b"\x08\x02\x10\x01\x22\x02\x08\x05")
    assert (answer.kind, answer.success, answer.pid, answer.script) == (messages.RESTORE, True, 5, "")


def test_a_failure_has_a_text_and_fields_that_nobody_asked_for_are_skipped() -> None:
    answer = messages.response(b"\x08\x01\x10\x00\x38\x16\x65\x00\x00\x00\x00\x69" + bytes(8) + b"\x4a\x02no")
    assert (answer.success, answer.text) == (False, "no")


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x0a\x05ab", b"\x0d\x00", b"\x08" + b"\x80" * 12, b"\x0b", b"\x2a\x01\x08", b"\x28\x01"]
)
def test_an_answer_that_is_none_is_refused(data) -> None:
    with pytest.raises(ValueError, match="criu sent"):
        messages.response(data)


@given(st.binary(max_size=40))
def test_no_bytes_break_the_reader(data) -> None:
    try:
        messages.response(data)
    except ValueError as exc:
        assert str(exc).startswith("criu sent")
