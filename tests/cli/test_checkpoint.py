"""``checkpoint`` and ``start --checkpoint``: the same requests and the same words as Docker's command line."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.row("RUN-50")

WORDS = [
    ("checkpoint", "create", "web", "one"),
    ("checkpoint", "create", "--leave-running", "--checkpoint-dir", "/backup", "web", "one"),
    ("checkpoint", "ls", "web"),
    ("checkpoint", "ls", "--checkpoint-dir=/backup", "web"),
    ("checkpoint", "list", "gone"),
    ("checkpoint", "rm", "web", "one"),
    ("checkpoint", "remove", "--checkpoint-dir", "/backup", "web", "one"),
    ("checkpoint", "rm", "web", "gone"),
    ("start", "--checkpoint", "one", "web"),
    ("start", "--checkpoint", "one", "--checkpoint-dir", "/backup", "web"),
    ("start", "--checkpoint", "one", "web", "db"),
]


def answers(engine) -> None:
    engine.answers |= {
        ("POST", "/containers/web/checkpoints"): (201, None),
        ("GET", "/containers/web/checkpoints"): (200, [{"Name": "two"}, {"Name": "one"}]),
        ("GET", "/containers/gone/checkpoints"): (404, {"message": "No such container: gone"}),
        ("DELETE", "/containers/web/checkpoints/one"): (204, None),
        ("DELETE", "/containers/web/checkpoints/gone"): (404, {"message": "checkpoint gone does not exist"}),
        ("POST", "/containers/web/start"): (204, None),
    }


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_requests_and_output_are_dockers(words, engine, docker, boxship) -> None:
    engine.experimental = True
    answers(engine)
    theirs = docker(*words)
    asked = [(r.method, r.path.split("/", 2)[2], r.query, r.body) for r in engine.requests if "_ping" not in r.path]
    engine.requests.clear()
    assert boxship(*words) == theirs
    assert asked == [
        (r.method, r.path.split("/", 2)[2], r.query, r.body) for r in engine.requests if "_ping" not in r.path
    ]


@pytest.mark.parametrize("words", [*WORDS[:1], *WORDS[2:3], *WORDS[5:6], *WORDS[8:9]], ids=" ".join)
@pytest.mark.parametrize("mode", [False, None])
def test_an_engine_without_experimental_features_is_not_asked(words, mode, engine, docker, boxship) -> None:
    engine.experimental = mode
    answers(engine)
    theirs = docker(*words)
    assert theirs[0] == 1
    assert boxship(*words) == theirs
    assert {request.path for request in engine.requests} == {"/_ping"}
