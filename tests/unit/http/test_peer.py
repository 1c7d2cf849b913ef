"""Who is at the other end: the kernel's word for Unix sockets, addresses for TCP."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from boxship.http.peer import Peer, address_text, common_name, of_socket


def test_the_other_end_of_a_unix_socket_is_a_user_and_a_process() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        program = Path("/proc/self/comm").read_text().strip()
        wanted = Peer(transport="unix", uid=os.getuid(), pid=os.getpid(), program=program, agent="x" * 64)
        assert of_socket(ours, "x" * 100) == wanted


def test_the_other_end_of_a_tcp_connection_is_an_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        ours, _ = listener.accept()
        with ours:
            port = client.getsockname()[1]
            assert of_socket(ours, "curl") == Peer(transport="tcp", address=f"127.0.0.1:{port}", agent="curl")


def test_addresses_and_certificates_as_text() -> None:
    assert address_text(("::1", 80, 0, 0)) == "[::1]:80"
    assert common_name({"subject": ((("organizationName", "o"),), (("commonName", "ann"),))}) == "ann"
    assert common_name(None) == ""
