import asyncio
import grp
import os
import socket
import stat
import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web

from boxship.http import listeners
from boxship.http.listeners import Address, ListenError, Listeners, parse_address
from boxship.http.server import Server

root = pytest.mark.skipif(os.geteuid() != 0, reason="changes the owner of a socket")


def parse(text, *, tls=False):
    return parse_address(text, tls=tls, default_socket="/run/d.sock")


@pytest.mark.row("ENG-02")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///a/b.sock", Address("unix", "/a/b.sock")),
        ("unix://", Address("unix", "/run/d.sock")),
        ("fd://", Address("fd", "")),
        ("tcp://0.0.0.0:99", Address("tcp", "0.0.0.0", 99)),
        ("tcp://", Address("tcp", "127.0.0.1", 2375)),
        ("tcp://:1234", Address("tcp", "127.0.0.1", 1234)),
        ("host.example", Address("tcp", "host.example", 2375)),
        ("tcp://[::1]:5/", Address("tcp", "::1", 5)),
        ("tcp://[::]", Address("tcp", "::", 2375)),
    ],
)
def test_addresses(text, address):
    assert parse(text) == address


@pytest.mark.row("ENG-03")
def test_the_port_depends_on_tls():
    assert (parse("tcp://x").port, parse("tcp://x", tls=True).port) == (2375, 2376)


@pytest.mark.parametrize(
    "text", ["ssh://x", "tcp://x:y", "tcp://x:99999", "tcp://a/b", "tcp://[::1", "unix:///" + "x" * 200]
)
def test_bad_addresses_are_named(text):
    with pytest.raises(ListenError, match="invalid bind address"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "loopback"), [("tcp://127.0.0.1", True), ("tcp://0.0.0.0", False), ("tcp://x", False)]
)
def test_loopback(text, loopback):
    assert listeners.is_loopback(parse(text)) is loopback


async def hello(request):
    return web.Response(text="hello")


@root
@pytest.mark.row("ENG-10")
def test_a_unix_socket_has_its_final_mode_and_owner(tmp_path):
    path = tmp_path / "new" / "api.sock"
    opened = Listeners()
    opened.open([Address("unix", str(path))], group="nogroup", tls=None)
    try:
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_uid == 0
        assert found.st_gid == grp.getgrnam("nogroup").gr_gid
        assert [entry.name for entry in path.parent.iterdir()] == ["api.sock"]
    finally:
        asyncio.run(opened.close())
    assert not path.exists()


@root
def test_a_group_that_does_not_exist_leaves_the_socket_to_root(tmp_path):
    opened = Listeners()
    opened.open([Address("unix", str(tmp_path / "s"))], group="no-such-group", tls=None)
    assert (tmp_path / "s").stat().st_gid == 0
    asyncio.run(opened.close())


def test_a_socket_nobody_answers_on_is_replaced(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    opened = Listeners()
    opened.open([Address("unix", str(path))], group="0", tls=None)
    asyncio.run(opened.close())


def test_a_socket_somebody_answers_on_is_not(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(ListenError, match="another process listens on it"):
            Listeners().open([Address("unix", str(path))], group="0", tls=None)
        assert path.exists()


def test_a_file_in_the_way_is_not_touched(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="no socket is in the way"):
        Listeners().open([Address("unix", str(path))], group="0", tls=None)
    assert path.read_text() == "precious"


def test_one_address_that_fails_closes_the_others(tmp_path):
    path = tmp_path / "s"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        addresses = [Address("unix", str(path)), Address("tcp", "127.0.0.1", port)]
        with pytest.raises(ListenError, match=f"listen tcp 127.0.0.1:{port}: bind: address already in use"):
            Listeners().open(addresses, group="0", tls=None)
    assert not path.exists()


@pytest.mark.row("ENG-02")
def test_several_listeners_serve_the_same_api(tmp_path):
    async def main():
        opened = Listeners()
        addresses = [Address("unix", str(tmp_path / "a")), Address("unix", str(tmp_path / "b"))]
        opened.open(addresses, group="0", tls=None)
        await opened.start(Server(hello))
        for name in ("a", "b"):
            connector = aiohttp.UnixConnector(str(tmp_path / name))
            async with aiohttp.ClientSession(connector=connector) as client, client.get("http://x/") as answer:
                assert await answer.text() == "hello"
        await opened.close()

    asyncio.run(main())


@pytest.mark.row("ENG-02")
def test_sockets_passed_by_systemd_are_found(tmp_path):
    """LISTEN_FDS counts from descriptor 3: a child gets the socket there."""
    program = (
        "import os, socket\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from boxship.http.listeners import passed_sockets\n"
        "[sock] = passed_sockets()\n"
        "print(sock.getsockname(), os.get_inheritable(sock.fileno()), os.environ.get('LISTEN_FDS'))\n"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        command = f"import os; os.dup2({listening.fileno()}, 3); exec({program!r})"
        done = subprocess.run(
            [sys.executable, "-c", command],
            pass_fds=(listening.fileno(),),
            env={**os.environ, "LISTEN_FDS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout == f"{tmp_path / 's'} False None\n", done.stderr


def test_no_passed_socket_is_an_error(monkeypatch):
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(ListenError, match="no sockets found via socket activation"):
        listeners.passed_sockets()
