"""A DNS server for tests: says what it is told to, over UDP and TCP, in a namespace."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

from boxship.wire import dns
from harness.netns import NetworkNamespace, entered

Answer = Callable[[dns.Query, bool], bytes | None]
"""The answer to a query that came over TCP (True) or UDP, None for silence."""


class DnsServer:
    """Listens on ``address`` port 53 inside ``namespace`` until :meth:`close`; keeps the queries that came."""

    def __init__(self, namespace: NetworkNamespace, address: str, answer: Answer) -> None:
        self.answer = answer
        self.queries: list[dns.Query] = []
        self.ports: list[int] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with entered(namespace):
            self._udp = socket.socket(family, socket.SOCK_DGRAM)
            self._tcp = socket.socket(family, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._udp.bind((address, 53))
        self._tcp.bind((address, 53))
        self._tcp.listen(64)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._datagrams, self._connections)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._udp.sendto(b"", self._udp.getsockname())  # ends the wait for a query
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _datagrams(self) -> None:
        while True:
            data, client = self._udp.recvfrom(65535)
            if not data:
                return
            answer = self._serve(data, client[1], stream=False)
            if answer is not None:
                with contextlib.suppress(OSError):
                    self._udp.sendto(answer, client)

    def _connections(self) -> None:
        while True:
            try:
                connection, client = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                connection.settimeout(30)
                (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                answer = self._serve(connection.recv(length, socket.MSG_WAITALL), client[1], stream=True)
                if answer is not None:
                    connection.sendall(dns.for_stream(answer))
                connection.recv(1)

    def _serve(self, data: bytes, port: int, *, stream: bool) -> bytes | None:
        query = dns.Query(data)
        self.queries.append(query)
        self.ports.append(port)
        return self.answer(query, stream)


def address_record(address: str, ttl: int = 60) -> dns.Record:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return dns.Record(dns.AAAA if ":" in address else dns.A, socket.inet_pton(family, address), ttl)


def always(address: str, ttl: int = 60) -> Answer:
    """Answer every question for an address of that family with one address."""

    def answer(query: dns.Query, _stream: bool) -> bytes:
        record = address_record(address, ttl)
        return dns.answer(query, dns.NOERROR, [record] if record.type == query.type else [])

    return answer


def silent(_query: dns.Query, _stream: bool) -> None:
    return None
