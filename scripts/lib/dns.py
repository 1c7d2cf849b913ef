"""Local names and a dead upstream, timed by one client inside a sandbox."""

from __future__ import annotations

import argparse
import os
import socket
import struct
import time

from boxship.wire import dns
from harness.dns_server import DnsServer, always, silent
from harness.names import Names, endpoint
from harness.netns import NetworkNamespace, entered

NAMES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="queries of each series")
    parser.add_argument("-r", type=int, default=5_000, help="queries per second of the paced series")
    options = parser.parse_args()
    names = Names()
    try:
        sandbox = names.sandbox()
        servers = [
            DnsServer(sandbox, "127.0.0.7", silent),
            DnsServer(sandbox, "127.0.0.8", always("192.0.2.1", ttl=0)),
        ]
        names.attach(names.resolver(sandbox, upstreams=["127.0.0.7", "127.0.0.8"]))
        for number in range(NAMES):
            names.end.publish(endpoint(f"c{number}", f"10.0.{number >> 8}.{number & 255}"))
        names.status()
        sock = client(sandbox)
        # What the client waits for a processor, and for its timers, is not the nameserver's doing.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        used = processor_time(names.pid())
        print("the client's timer alone:", series(None, options.n, options.r))
        print("one after the other:", series(sock, options.n, 0))
        print(f"nameserver: {(processor_time(names.pid()) - used) / options.n * 1e6:.0f} us of processor time a query")
        print(f"{options.r} a second:", series(sock, options.n, options.r))
        slow = [ask(sock, query(f"outside{number}.example")) for number in range(200)]
        print(
            f"200 outside, the first server dead: slowest {max(slow) * 1e3:.0f} ms, next {sorted(slow)[-2] * 1e3:.1f} ms"
        )
        sock.close()
        for server in servers:
            server.close()
    finally:
        names.close()


def series(sock: socket.socket | None, count: int, rate: int) -> str:
    """Ask for local names and return what it took; paced queries count from the moment they were due.

    Without a socket nothing is asked: what then comes late is the machine's doing.
    """
    queries = [query(f"c{number}") for number in range(NAMES)]
    taken = []
    start = time.monotonic()
    for number in range(count):
        due = start + number / rate if rate else time.monotonic()
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        if sock is not None:
            ask(sock, queries[number % NAMES])
        taken.append(time.monotonic() - due)
    elapsed = time.monotonic() - start
    taken.sort()
    median, late = taken[count // 2] * 1e3, taken[count * 99 // 100] * 1e3
    return f"{count / elapsed:.0f} a second, median {median:.2f} ms, p99 {late:.2f} ms"


def client(sandbox: NetworkNamespace) -> socket.socket:
    with entered(sandbox):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.connect(("127.0.0.11", 53))
    return sock


def query(name: str) -> bytes:
    return struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + dns.write_name(name) + struct.pack("!HH", dns.A, dns.IN)


def ask(sock: socket.socket, data: bytes) -> float:
    start = time.monotonic()
    sock.send(data)
    sock.recv(512)
    return time.monotonic() - start


def processor_time(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
