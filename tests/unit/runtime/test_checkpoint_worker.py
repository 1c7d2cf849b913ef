"""What a failure of CRIU says."""

import pytest

from boxship.runtime.checkpoints.worker import last_errors

pytestmark = pytest.mark.row("RUN-50")

LOG = """(00.000010) Warn  (criu/kerndat.c:1285): Can't keep kdat cache on non-tempfs
(00.012345) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.012400) Error (criu/cr-dump.c:1679): Dump files (pid: 77) failed with -1
(00.012400) Error (criu/cr-dump.c:1679): Dump files (pid: 77) failed with -1
Error (criu/cr-dump.c:2111): Dumping FAILED.
"""


def test_the_last_errors_are_told_once_and_without_places() -> None:
    assert last_errors(LOG) == (
        "inet: Connected TCP socket, consider using --tcp-established option.; "
        "Dump files (pid: 77) failed with -1; Dumping FAILED."
    )


def test_a_log_without_errors_says_nothing() -> None:
    assert last_errors("(00.1) Warn (x): y\n") == ""


def test_what_a_container_brought_into_the_log_stays_short_and_printable() -> None:
    text = last_errors("Error (criu/files.c:1): Can't open \x1b[31m" + "x" * 5000)
    assert len(text) == 300
    assert "\x1b" not in text


def test_only_the_last_three_are_told() -> None:
    assert last_errors("\n".join(f"Error (a): {n}" for n in range(9))) == "6; 7; 8"
