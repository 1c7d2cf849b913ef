"""Sockets that wait for clients."""

from __future__ import annotations

import os
import socket

import pytest

from boxship.linux.listeners import listening


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize(("kind", "protocol"), [(socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")])
def test_a_socket_that_waits_is_found_with_its_address(family, address, kind, protocol):
    with socket.socket(family, kind) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            pytest.skip("this host has no IPv6")
        place = (address, sock.getsockname()[1])
        if kind == socket.SOCK_STREAM:
            assert place not in listening(os.getpid(), protocol)
            sock.listen()
        assert place in listening(os.getpid(), protocol)


def test_a_process_that_is_gone_is_an_error():
    with pytest.raises(OSError):
        listening(2**22 + 1, "tcp")
