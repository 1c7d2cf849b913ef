"""I5, I6, I7 on the whole engine: what a hostile registry costs, what it learns, and that others notice nothing."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import hostile
from harness.engine import Engine
from harness.registry_server import RegistryServer
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

TESTS = Path(__file__).parents[1]
OUTSIDE = "192.0.2.1"  # of the namespace's own, but no loopback: TLS is wanted
MIB = 1 << 20


class Hostile:
    """The hostile registry in the engine's network namespace."""

    def __init__(self, engine: Engine, port: int, *files: str) -> None:
        self._socket = str(engine.root / f"hostile-{port}")
        self.host = f"localhost:{port}"
        words = [sys.executable, "-m", "harness.hostile_registry", str(port), self._socket, *files]
        path = f"{TESTS}:{TESTS.parent / 'src'}"
        self._process = subprocess.Popen(
            [*engine.namespace.prefix(), *words], env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL
        )
        until(lambda: os.path.exists(self._socket) or self._process.poll() is not None, 60)
        assert self._process.poll() is None

    def ask(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._socket)
        connection.request("GET", path)
        data = connection.getresponse().read()
        connection.close()
        return data

    def asked(self, part: str) -> int:
        """Return how many requests had ``part`` in their method, host and path."""
        return sum(part in line for line in json.loads(self.ask("/log")))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="module")
def attacker(engine: Engine) -> Iterator[Hostile]:
    attacker = Hostile(engine, 5001)
    yield attacker
    attacker.close()


@pytest.fixture(scope="module")
def good(engine: Engine) -> Iterator[str]:
    """The name of an image in a registry that means well."""
    server = RegistryServer(prefix=engine.namespace.prefix())
    try:
        server.start()
        name = f"localhost:{server.port}/good"
        engine.docker("tag", "busybox", name)
        engine.docker("push", "-q", name)
        yield name
    finally:
        server.close()


def peak(engine: Engine) -> int:
    status = Path(f"/proc/{hostile.daemon_pid(engine)}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) << 10


def refused(engine: Engine, name: str) -> str:
    """Pull what can't be pulled and return the error."""
    result = engine.docker("pull", "-q", name, check=False)
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in engine.log_text()
    return result.stderr


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("redirect", "stopped after 8 redirects"),
        ("unavailable", "503"),
        ("heads", ""),
        ("flood", "is larger than"),
        ("digest", "filesystem layer verification failed"),
        ("size", ""),
        ("realm", "not encrypted"),
    ],
)
def test_i5_i6_i7_a_hostile_registry_costs_little_and_is_told(
    engine: Engine, attacker: Hostile, mode: str, said: str
) -> None:
    before = peak(engine)
    ingests = engine.data_root / "content/ingest"
    assert said in refused(engine, f"{attacker.host}/{mode}")
    assert peak(engine) < before + 64 * MIB
    assert attacker.asked(f"{mode}/") < 30
    assert attacker.asked("169.254") == 0
    assert sum(path.stat().st_blocks * 512 for path in ingests.iterdir()) < 16 * MIB
    images = [tag for row in engine.api("GET", "/images/json")[1] for tag in row["RepoTags"]]
    assert not any(mode in tag for tag in images)


def test_i7_lists_without_end_are_given_up(engine: Engine, attacker: Hostile) -> None:
    before = peak(engine)
    result = engine.docker("pull", "-q", "-a", f"{attacker.host}/tags", check=False)
    assert "has no end" in result.stderr
    engine.docker("search", f"{attacker.host}/name", check=False)
    assert attacker.asked("/tags/list") <= 1000
    assert attacker.asked("/_catalog") <= 1000
    assert peak(engine) < before + 64 * MIB


def test_i7_while_one_registry_trickles_all_else_goes_on(engine: Engine, attacker: Hostile, good: str) -> None:
    names = [f"{attacker.host}/trickle/{number}" for number in range(5)]
    prefix, environment = engine.namespace.prefix(), engine.client_environment()
    slow = [
        subprocess.Popen([*prefix, "docker", "pull", name], env=environment, stdout=subprocess.DEVNULL)
        for name in names
    ]
    try:
        until(lambda: all(attacker.asked(f"trickle/{number}/") for number in range(5)), 60)
        engine.docker("rmi", "-f", good)
        engine.docker("pull", "-q", good)
        assert engine.docker("ps", "-q").stdout == ""
        assert hostile.run(engine, good, "echo", "here").text == "here\n"
        assert [each.poll() for each in slow] == [None] * 5
    finally:
        for each in slow:
            each.terminate()
            each.wait(30)


def test_i7_a_wrong_certificate_and_a_way_down_to_http_are_refused(engine: Engine, tmp_path: Path) -> None:
    engine.namespace.run("ip", "address", "replace", f"{OUTSIDE}/32", "dev", "lo")
    certificate, key = str(tmp_path / "certificate"), str(tmp_path / "key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "30", "-subj", "/CN=test"),
            *("-addext", f"subjectAltName=IP:{OUTSIDE}"),
        ],
        check=True,
        capture_output=True,
    )
    attacker = Hostile(engine, 5002, certificate, key)
    trusted = engine.root / "certs.d" / f"{OUTSIDE}:5002"
    try:
        assert "x509: certificate signed by unknown authority" in refused(engine, f"{OUTSIDE}:5002/good")
        assert attacker.asked("/manifests/") == 0
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(Path(certificate).read_bytes())
        assert "which is not encrypted" in refused(engine, f"{OUTSIDE}:5002/downgrade")
        engine.docker("pull", "-q", f"{OUTSIDE}:5002/good")
        engine.docker("rmi", f"{OUTSIDE}:5002/good")
    finally:
        attacker.close()


@pytest.fixture(scope="module")
def impatient() -> Iterator[tuple[Engine, Hostile]]:
    """An engine that asks twice, and the hostile registry in its network namespace."""
    engine = Engine(options=["--max-download-attempts=2"])
    try:
        engine.start()
        attacker = Hostile(engine, 5001)
        try:
            yield engine, attacker
        finally:
            attacker.close()
    finally:
        engine.close()


@pytest.mark.parametrize("kind", ["limited", "busy"])
@pytest.mark.parametrize("how", ["forever", "huge", "years", "negative", "past", "rubbish"])
def test_i7_a_registry_that_asks_for_time_without_end_is_given_up(
    impatient: tuple[Engine, Hostile], kind: str, how: str
) -> None:
    engine, attacker = impatient
    said = refused(engine, f"{attacker.host}/{kind}/{how}")
    assert "429" in said
    assert ("it may be asked again in" in said) is (how in ("huge", "years"))
    assert 1 <= attacker.asked(f"{kind}/{how}/{'manifests' if kind == 'limited' else 'blobs'}") <= 8
    assert engine.api("GET", "/images/json?all=1")[1] == []


@pytest.mark.parametrize("how", ["seconds", "date"])
def test_i7_a_registry_that_asks_for_time_gets_it(impatient: tuple[Engine, Hostile], how: str) -> None:
    engine, attacker = impatient
    name = f"{attacker.host}/limited/{how}"
    engine.docker("pull", "-q", name)
    assert attacker.asked(f"limited/{how}/manifests/") == 2
    engine.docker("rmi", name)


class Pull:
    """A pull that is under way."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._connection = hostile.connect(engine)
        self._connection.request("POST", f"/images/create?fromImage={image}&tag=latest")
        self._answer = self._connection.getresponse()

    def until(self, text: str) -> None:
        """Read until a message has ``text`` in it."""
        while text.encode() not in (line := self._answer.readline()):
            assert line, f"no {text}"

    def rest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._answer.read().splitlines()]

    def leave(self) -> None:
        self._answer.close()
        self._connection.close()


def test_two_pulls_of_one_image_share_their_download_and_one_may_leave(engine: Engine, attacker: Hostile) -> None:
    image = f"{attacker.host}/hold/image"
    layer = "GET " + attacker.host + "/v2/hold/image/blobs/"
    first = Pull(engine, image)
    first.until("Downloading")
    second, third = Pull(engine, image), Pull(engine, image)
    for pull in (second, third):
        pull.until("Downloading")
    first.leave()
    attacker.ask("/more")
    for pull in (second, third):
        assert "Status: Downloaded newer image" in pull.rest()[-1]["status"]
        pull.leave()
    assert attacker.asked(layer) == 1 + 3  # the layer once, the configuration by each
    assert hostile.create(engine, image, "x")
