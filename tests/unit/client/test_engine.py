"""Calls of the Engine API against a scripted engine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.client.config import Endpoint
from boxship.client.engine import Engine, filters_text, quote, version_key
from boxship.client.errors import ApiError, NotFoundError, TooOldError
from harness.fake_engine import FakeEngine, frame, hijacked


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        served = FakeEngine(path)
        served.answers["HEAD", "/_ping"] = (200, None)
        threading.Thread(target=served.serve, args=(listener,), daemon=True).start()
        yield served
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def engine(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.delenv("DOCKER_API_VERSION", raising=False)
    client = Engine(Endpoint(f"unix://{fake.path}", None, "default"), "test", {"X-Meta": "1"})
    yield client
    client.close()


def test_the_version_is_the_older_of_both_and_asked_once(fake, engine) -> None:
    fake.api_version = "1.41"
    fake.answers["GET", "/info"] = (200, {"ID": "x"})
    assert engine.json("GET", "/info") == {"ID": "x"}
    assert engine.json("GET", "/info") == {"ID": "x"}
    assert [request.path for request in fake.requests] == ["/_ping", "/v1.41/info", "/v1.41/info"]
    assert fake.requests[1].headers["x-meta"] == "1"
    with pytest.raises(TooOldError, match='"--x" requires API version'):
        engine.require("1.44", "--x")


@pytest.mark.row("CLI-04")
def test_a_version_from_the_environment_is_not_negotiated(fake, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_API_VERSION", "v1.30")
    fake.answers["GET", "/info"] = (200, {})
    client = Engine(Endpoint(f"unix://{fake.path}", None, "default"), "test", {})
    client.json("GET", "/info")
    client.close()
    assert [request.path for request in fake.requests] == ["/v1.30/info"]


def test_errors_carry_the_engines_words(fake, engine) -> None:
    fake.answers["GET", "/a"] = (409, {"message": "busy"})
    with pytest.raises(ApiError, match="Error response from daemon: busy") as caught:
        engine.json("GET", "/a")
    assert caught.value.status == 409
    with pytest.raises(NotFoundError):
        engine.json("GET", "/nowhere")


def test_a_hijacked_connection_is_a_raw_stream(fake, engine) -> None:
    fake.answers["POST", "/attach"] = hijacked(frame(1, b"hi"))
    stream, leftover, media_type = engine.hijack("/attach", {"stream": True})
    data = leftover
    while piece := stream.recv(100):
        data += piece
    stream.close()
    assert (data, media_type) == (frame(1, b"hi"), "application/vnd.docker.raw-stream")
    assert fake.requests[-1].headers["upgrade"] == "tcp"


def test_queries_are_encoded(fake, engine) -> None:
    fake.answers["GET", "/a"] = (200, {})
    engine.json("GET", "/a", {"x": "a b/ü", "yes": True, "no": False, "n": 3})
    assert fake.requests[-1].query == ("n=3", "no=0", "x=a%20b%2F%C3%BC", "yes=1")


def test_small_helpers() -> None:
    assert filters_text({"label": ["b", "a", "b"], "id": ["x"]}) == '{"id":{"x":true},"label":{"a":true,"b":true}}'
    assert quote("a/b:c@d", "/:@") == "a/b:c@d"
    assert version_key("1.9") < version_key("1.41")
