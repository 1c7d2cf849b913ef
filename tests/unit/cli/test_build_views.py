"""What a build looks like while it runs."""

from binascii import b2a_base64
from typing import Any

import pytest

from boxship.cli.building.board import Board
from boxship.cli.building.views import LiveView, PlainView, result_text

SECOND = 10**9
VERTICES = [
    {"vertex": "a", "name": "[build 1/2] FROM base", "stage": "build", "step": 1},
    {"vertex": "b", "name": "[build 2/2] RUN make", "stage": "build", "step": 2, "inputs": ["a"]},
    {"vertex": "c", "name": "[final 2/2] COPY --from=build /a /", "stage": "final", "step": 4, "inputs": ["b"]},
]


def at(seconds: float, event: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "time_ns": int((100 + seconds) * SECOND), **more}


def written(data: bytes) -> str:
    return b2a_base64(data).decode()


EVENTS = [
    at(0, "planned", vertices=VERTICES),
    at(0, "ended", vertex="a", cached=True),
    at(0, "started", vertex="b"),
    at(0.5, "output", vertex="b", stream=1, data=written(b"cc -o a\nl")),
    at(1, "output", vertex="b", stream=2, data=written("d -o a é".encode())),
]


def feed(events: list[dict[str, Any]]) -> Board:
    board = Board()
    for event in events:
        board.feed(event)
    return board


def plain(events: list[dict[str, Any]], *, why: bool = False) -> str:
    board, view, text = Board(), PlainView(why=why), ""
    for event in events:
        board.feed(event)
        text += view.show(board, event)
    return text


def test_lines_are_numbered_by_step_and_timed_and_never_broken() -> None:
    more = [at(2, "ended", vertex="b", reason="file main.c changed"), at(2, "built", image="sha256:1", names=["x:y"])]
    assert plain([*EVENTS, *more], why=True) == (
        "#1 [build 1/2] FROM base\n#1 CACHED\n\n"
        "#2 [build 2/2] RUN make\n#2 0.500 cc -o a\n#2 2.000 ld -o a é\n#2 DONE 2.0s\n#2 not cached: file main.c changed\n\n"
    )


def test_a_failure_and_a_finding_stand_where_they_happen() -> None:
    more = [at(2, "failed", vertex="b", message="exit code: 2", code=2), at(2, "warned", rule="R", message="m", line=3)]
    text = plain([*EVENTS, *more])
    assert text.endswith("#2 2.000 ld -o a é\n#2 ERROR: exit code: 2\n\nWARN: R: m (line 3)\n")


def test_a_picture_has_stages_with_bars_and_the_last_lines_of_what_runs() -> None:
    lines = LiveView().lines(feed(EVENTS), 60, 20, 103 * SECOND)
    assert lines[0] == "[+] Building 3.0s (1/3)"
    assert lines[1].startswith(" build ") and lines[1].endswith(" 1/2 3.0s")
    assert lines[2].startswith(" final ") and lines[2].endswith(" 0/1 -")
    assert "CACHED [build 1/2] FROM base" in lines[3] and "0.0s" in lines[3]
    assert lines[4] == " => [build 2/2] RUN make".ljust(55) + " 3.0s"
    assert ["cc -o a" in lines[5], "ld -o a é" in lines[6], len(lines)] == [True, True, 7]


@pytest.mark.parametrize("height", range(2, 8))
def test_a_picture_fits_its_terminal_and_keeps_what_runs(height: int) -> None:
    lines = LiveView().lines(feed(EVENTS), 30, height, 103 * SECOND)
    assert len(lines) <= height
    if height >= 6:
        assert any("RUN make" in line for line in lines)


def test_what_a_program_writes_moves_no_cursor() -> None:
    board = feed([*EVENTS, at(2, "output", vertex="b", stream=1, data=written(b"\n10%\r20%\r\x1b[2J30%"))])
    lines = LiveView().lines(board, 60, 20, 103 * SECOND)
    assert "30%" in lines[-1] and "10%" not in lines[-1] and "\x1b[2J" not in lines[-1]


def test_the_result_is_named() -> None:
    board = feed([*EVENTS, at(2, "built", image="sha256:1", names=["x:y", "z:latest"])])
    assert result_text(board) == "image sha256:1\nnamed x:y\nnamed z:latest\n"
    assert LiveView().lines(board, 60, 20, 102 * SECOND)[0] == "[+] Building 2.0s (1/3) FINISHED"


def test_an_event_of_a_later_version_is_passed_over() -> None:
    assert plain([at(0, "hologram", vertices=[])]) == ""
