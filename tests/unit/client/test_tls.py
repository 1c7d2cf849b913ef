"""TLS as a socket: nothing decrypted stays unseen, nothing blocks that should not."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from boxship.client.errors import HostError
from boxship.client.host import TlsFiles
from boxship.client.tls import TlsStream


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl program to make a certificate with")
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
            *("-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return directory


@pytest.mark.row("CLI-04")
def test_a_big_record_is_read_whole_without_blocking(certificate) -> None:
    near, far = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def serve() -> None:
        with context.wrap_socket(far, server_side=True) as server:
            assert server.recv(5) == b"hello"
            server.sendall(bytes(100_000))

    thread = threading.Thread(target=serve)
    thread.start()
    files = TlsFiles(
        str(certificate / "cert.pem"), str(certificate / "cert.pem"), str(certificate / "key.pem"), verify=True
    )
    stream = TlsStream(near, "localhost", files)
    try:
        stream.sendall(b"hello")
        stream.setblocking(False)
        received = 0
        while received < 100_000:
            select.select([stream], [], [])
            try:
                received += len(stream.recv(100))
            except BlockingIOError:
                continue
        assert received == 100_000
    finally:
        thread.join()
        stream.close()


def test_files_that_cannot_be_used_are_named() -> None:
    near, far = socket.socketpair()
    with near, far, pytest.raises(HostError, match="unable to use TLS files"):
        TlsStream(near, "localhost", TlsFiles("/nosuch/ca.pem", "/nosuch/cert.pem", "/nosuch/key.pem", verify=True))
