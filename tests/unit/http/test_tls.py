"""TLS with client certificates, and half-close over it."""

import asyncio
import shutil
import socket
import ssl
import subprocess

import pytest
from aiohttp import web

from boxship.http import hijack
from boxship.http.listeners import Address, Listeners
from boxship.http.server import Server, peer_of
from boxship.http.tls import server_context

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "stranger-ca"):
        openssl("req", "-x509", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "stranger-ca")):
        openssl("req", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", "/CN=localhost")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2"),
            *("-CA", f"{authority}.pem", "-CAkey", f"{authority}-key.pem", "-CAcreateserial"),
        )
    return directory


def client_context(certificates, name=None):
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.check_hostname = False
    if name is not None:
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}-key.pem")
    return context


def serve(certificates, handler, client, *, verify=True):
    """Serve over TLS on a free port and run ``client(port)`` against it."""

    async def main():
        context = server_context(
            certificate=str(certificates / "server.pem"),
            key=str(certificates / "server-key.pem"),
            authority=str(certificates / "ca.pem"),
            verify=verify,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        opened = Listeners()
        opened.open([Address("tcp", "127.0.0.1", port)], group="0", tls=context)
        server = Server(handler)
        await opened.start(server)
        try:
            return await asyncio.to_thread(client, port)
        finally:
            await opened.close()
            await server.shutdown(0.1)

    return asyncio.run(main())


async def hello(request):
    return web.Response(text="hello")


def get(context):
    def client(port):
        with socket.create_connection(("127.0.0.1", port)) as tcp, context.wrap_socket(tcp) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := tls.recv(4096):
                answer += data
            return answer

    return client


@pytest.mark.row("ENG-04")
def test_a_client_with_a_certificate_of_the_authority_is_served(certificates):
    assert serve(certificates, hello, get(client_context(certificates, "client"))).endswith(b"hello")


def test_a_handler_sees_the_address_and_the_certificate_behind_tls(certificates):
    seen = []

    async def handler(request):
        seen.append(peer_of(request))
        return web.Response()

    serve(certificates, handler, get(client_context(certificates, "client")))
    assert (seen[0].transport, seen[0].certificate) == ("tls", "localhost")
    assert seen[0].address.startswith("127.0.0.1:")


@pytest.mark.row("ENG-04")
@pytest.mark.parametrize("name", [None, "stranger"])
def test_a_client_without_the_right_certificate_is_refused_at_the_handshake(certificates, name):
    served = []

    async def handler(request):
        served.append(request)
        return web.Response()

    with pytest.raises(OSError, match=r"ALERT|alert|reset|EOF|Broken"):
        serve(certificates, handler, get(client_context(certificates, name)))
    assert served == []


@pytest.mark.row("ENG-04")
def test_without_verification_any_client_is_served(certificates):
    assert serve(certificates, hello, get(client_context(certificates)), verify=False).endswith(b"hello")


@pytest.mark.row("ENG-04")
def test_old_tls_is_refused(certificates):
    context = client_context(certificates, "client")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r".+"):
        serve(certificates, hello, get(context))


def test_a_plain_client_is_dropped(certificates):
    def client(port):
        with socket.create_connection(("127.0.0.1", port)) as tcp:
            tcp.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return tcp.recv(4096)

    assert b"HTTP" not in serve(certificates, hello, client)


@pytest.mark.row("API-08")
def test_output_arrives_after_the_input_has_ended(certificates):
    """``echo hi | docker --tls run -i``: close_notify of the client ends its input only."""

    async def count(request):
        hijack.hold(request)
        stream = await hijack.take_over(request, "application/vnd.docker.raw-stream", {})
        sock = socket.socket(fileno=stream.detach())
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock)
        total = len(stream.leftover)
        while data := await reader.read(65536):
            total += len(data)
        writer.write(b"%d " % total + b"x" * 1_000_000)
        await writer.drain()
        writer.close()
        return hijack.Nothing()

    def client(port):
        from_server, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context(certificates, "client").wrap_bio(from_server, to_server)
        with socket.create_connection(("127.0.0.1", port)) as tcp:

            def step(call, *arguments):
                while True:
                    try:
                        return call(*arguments)
                    except ssl.SSLWantReadError:
                        tcp.sendall(to_server.read())
                        data = tcp.recv(65536)
                        from_server.write(data) if data else from_server.write_eof()

            step(tls.do_handshake)
            tls.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            tls.write(b"y" * 1_000_000)
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()  # close_notify
            tcp.sendall(to_server.read())
            tcp.shutdown(socket.SHUT_WR)
            received = b""
            while data := tcp.recv(65536):
                received += data
            return len(received)

    assert serve(certificates, count, client) > 1_000_000
