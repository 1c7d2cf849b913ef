"""The docker CLI over TCP with client certificates."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox

pytestmark = [
    pytest.mark.system,
    pytest.mark.row("ENG-04"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make certificates"),
]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a server, a client, and a client of another authority, as the files of a DOCKER_CERT_PATH."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = directory / "names"
    names.write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\n")
    for authority in ("ours", "theirs"):
        openssl(
            *("req", "-x509", *kind, "-subj", f"/CN={authority}"),
            *("-keyout", directory / f"{authority}-key.pem", "-out", directory / f"{authority}.pem"),
        )
    for name, authority in (("server", "ours"), ("client", "ours"), ("stranger", "theirs")):
        place = directory / name
        place.mkdir()
        openssl("req", *kind, "-subj", f"/CN={name}", "-keyout", place / "key.pem", "-out", place / "csr.pem")
        openssl(
            *("x509", "-req", "-in", place / "csr.pem", "-out", place / "cert.pem", "-days", "2", "-extfile", names),
            *("-CA", directory / f"{authority}.pem", "-CAkey", directory / f"{authority}-key.pem", "-CAcreateserial"),
        )
        shutil.copy(directory / "ours.pem", place / "ca.pem")
    return directory


@pytest.fixture(scope="module")
def engine(certificates: Path) -> Iterator[Engine]:
    server = certificates / "server"
    files = [f"--tlscacert={server}/ca.pem", f"--tlscert={server}/cert.pem", f"--tlskey={server}/key.pem"]
    engine = Engine(options=["--host=tcp://127.0.0.1:2376", "--tlsverify", *files])
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture
def docker(engine: Engine, certificates: Path) -> Run:
    """Call the docker CLI over TLS: ``docker("ps", who="client")``."""

    def call(
        *args: str, who: str = "client", stdin: int = subprocess.DEVNULL, **more: object
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            **engine.client_environment(),
            "DOCKER_HOST": "tcp://127.0.0.1:2376",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(certificates / who),
        }
        options = {"text": True, "stdin": stdin, "timeout": 60, "check": False, **more}
        if "input" in options:
            del options["stdin"]
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [*engine.namespace.prefix(), "docker", *args], capture_output=True, env=environment, **options
        )

    return call


def test_a_known_client_is_served(docker: Run) -> None:
    assert docker("version", "--format", "{{.Server.Os}}").stdout == "linux\n"
    done = docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")


def test_the_end_of_input_reaches_the_program(docker: Run) -> None:
    assert docker("run", "-i", "--rm", "busybox", "cat", input="hi\n").stdout == "hi\n"


def test_exec_takes_input_to_its_end(docker: Run) -> None:
    docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    done = docker("exec", "-i", "box", "sh", "-c", "wc -c; exit 5", input="x" * 100_000)
    assert (done.returncode, done.stdout) == (5, "100000\n")


def test_ten_megabytes_pass_unchanged_both_ways(docker: Run) -> None:
    data = os.urandom(10 << 20)
    done = docker("run", "-i", "--rm", "busybox", "cat", input=data, text=False)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_logs_follow_to_the_end(docker: Run) -> None:
    docker("run", "-d", "--name", "talks", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    assert docker("logs", "-f", "talks").stdout == "1\n2\n3\n"


def test_a_client_of_another_authority_is_refused(docker: Run) -> None:
    done = docker("ps", who="stranger")
    assert done.returncode == 1
    assert "tls: " in done.stderr or "remote error" in done.stderr


def test_a_client_without_certificate_is_refused(engine: Engine, certificates: Path) -> None:
    program = (
        "import socket, ssl, sys\n"
        "context = ssl.create_default_context(cafile=sys.argv[1])\n"
        "with context.wrap_socket(socket.create_connection(('127.0.0.1', 2376)), server_hostname='localhost') as sock:\n"
        "    sock.sendall(b'GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "    print(sock.recv(100))\n"
    )
    done = engine.namespace.run(sys.executable, "-c", program, str(certificates / "ours.pem"), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "certificate required" in done.stderr


def test_a_client_without_tls_is_refused(engine: Engine) -> None:
    done = engine.docker("-H", "tcp://127.0.0.1:2376", "ps", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
