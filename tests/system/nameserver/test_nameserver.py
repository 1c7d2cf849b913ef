"""The nameserver in namespaces made by hand, asked by dig and by C libraries' resolvers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.wire import dns
from harness import waiting
from harness.dns_server import Answer, DnsServer, address_record, always, silent
from harness.names import Names, endpoint
from harness.netns import NetworkNamespace, entered

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
needs_dig = pytest.mark.skipif(not shutil.which("dig"), reason="dig is not installed")


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.close()


@pytest.fixture
def servers() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def serve(servers: contextlib.ExitStack, namespace: NetworkNamespace, address: str, answer: Answer) -> DnsServer:
    server = DnsServer(namespace, address, answer)
    servers.callback(server.close)
    return server


def dig(namespace: NetworkNamespace, *words: str) -> list[str]:
    """Return the answers; what dig remarks about queries that it sent again is left out."""
    lines = namespace.run("dig", "+time=30", "+tries=1", "+short", "@127.0.0.11", *words).stdout.splitlines()
    return [line for line in lines if not line.startswith(";;")]


def status_of(namespace: NetworkNamespace, *words: str) -> str:
    text = namespace.run("dig", "+time=30", "+tries=1", "@127.0.0.11", *words).stdout
    return text.partition("status: ")[2].partition(",")[0]


def ask(namespace: NetworkNamespace, data: bytes) -> socket.socket:
    """Send one datagram to the nameserver and return the socket that its answer comes to."""
    with entered(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(30)
    sock.connect(("127.0.0.11", 53))
    sock.send(data)
    return sock


def connect(namespace: NetworkNamespace) -> socket.socket:
    with entered(namespace):
        sock = socket.socket()
    sock.settimeout(30)
    sock.connect(("127.0.0.11", 53))
    return sock


def query(name: str, type: int = dns.A, id: int = 1) -> bytes:
    return struct.pack("!HHHHHH", id, 0x0100, 1, 0, 0, 0) + dns.write_name(name) + struct.pack("!HH", type, 1)


@needs_dig
@pytest.mark.row("NET-10")
@pytest.mark.row("NET-32")
def test_dig_finds_names_aliases_and_addresses(names: Names) -> None:
    sandbox = names.sandbox()
    names.attach(names.resolver(sandbox))
    names.publish(endpoint("db", "10.0.0.2", "fd00::2", aliases=["data", "c0ffee"]))
    names.publish(endpoint("db2", "10.0.0.3", aliases=["data"]))
    assert dig(sandbox, "db") == ["10.0.0.2"]
    assert dig(sandbox, "c0ffee.front", "AAAA") == ["fd00::2"]
    assert sorted(dig(sandbox, "+tcp", "data")) == ["10.0.0.2", "10.0.0.3"]
    assert dig(sandbox, "-x", "10.0.0.3") == ["db2.front."]
    assert (status_of(sandbox, "db2", "AAAA"), dig(sandbox, "db2", "AAAA")) == ("NOERROR", [])
    assert status_of(sandbox, "unknown") == "SERVFAIL"


@needs_dig
def test_port_53_stays_free_for_the_sandboxs_own_server(names: Names, servers: contextlib.ExitStack) -> None:
    sandbox = names.sandbox()
    names.attach(names.resolver(sandbox))
    names.publish(endpoint("db", "10.0.0.2"))
    serve(servers, sandbox, "0.0.0.0", always("192.0.2.1"))
    assert dig(sandbox, "db") == ["10.0.0.2"]
    assert sandbox.run("dig", "+short", "@127.0.0.1", "db").stdout == "192.0.2.1\n"


@needs_dig
def test_each_sandbox_sees_its_own_networks(names: Names) -> None:
    front, both = names.sandbox(), names.sandbox()
    names.attach(names.resolver(front, "front"))
    names.attach(names.resolver(both, "back", "front", links={"store": "db"}))
    names.publish(endpoint("web", "10.0.0.2", network="front"))
    names.publish(endpoint("db", "10.1.0.2", network="back"))
    assert (dig(front, "web"), status_of(front, "db")) == (["10.0.0.2"], "SERVFAIL")
    assert (dig(both, "web"), dig(both, "db"), dig(both, "store")) == (["10.0.0.2"], ["10.1.0.2"], ["10.1.0.2"])


@needs_dig
def test_other_names_are_asked_of_the_upstreams_from_inside_the_sandbox(
    names: Names, servers: contextlib.ExitStack
) -> None:
    sandbox = names.sandbox()
    server = serve(servers, sandbox, "127.0.0.7", always("192.0.2.1"))
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7"]))
    assert dig(sandbox, "example.com") == ["192.0.2.1"]
    assert dig(sandbox, "+tcp", "example.org") == ["192.0.2.1"]
    assert dig(sandbox, "example.com") == ["192.0.2.1"]
    assert [asked.name for asked in server.queries] == ["example.com", "example.org"]


@needs_dig
def test_n3_an_internal_network_resolves_nothing_outside(names: Names, servers: contextlib.ExitStack) -> None:
    sandbox = names.sandbox()
    server = serve(servers, sandbox, "127.0.0.7", always("192.0.2.1"))
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7"], forward=False))
    names.publish(endpoint("db", "10.0.0.2"))
    assert dig(sandbox, "db") == ["10.0.0.2"]
    assert status_of(sandbox, "example.com") == "SERVFAIL"
    assert status_of(sandbox, "secret.example.com", "TXT") == "SERVFAIL"
    assert server.queries == []


@needs_dig
def test_an_answer_too_long_for_udp_comes_over_tcp(names: Names, servers: contextlib.ExitStack) -> None:
    def answer(asked: dns.Query, stream: bool) -> bytes:
        records = [address_record(f"192.0.2.{number}") for number in range(200)]
        return dns.answer(asked, dns.NOERROR, records, limit=dns.LIMIT if stream else asked.limit)

    sandbox = names.sandbox()
    serve(servers, sandbox, "127.0.0.7", answer)
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7"]))
    for number in range(100):
        names.end.publish(endpoint(f"task{number}", f"10.0.0.{number}", aliases=["tasks"]))
    names.status()
    assert len(dig(sandbox, "long.example")) == 200
    assert len(dig(sandbox, "tasks")) == 100
    assert len(dig(sandbox, "+bufsize=4096", "+ignore", "tasks")) == 100
    assert len(dig(sandbox, "+noedns", "+ignore", "tasks")) == (512 - 12 - 11) // 16


@needs_dig
def test_a_dead_upstream_is_asked_once_and_then_last(names: Names, servers: contextlib.ExitStack) -> None:
    sandbox = names.sandbox()
    dead = serve(servers, sandbox, "127.0.0.7", silent)
    serve(servers, sandbox, "127.0.0.8", always("192.0.2.1"))
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7", "127.0.0.8"]))
    assert dig(sandbox, "first.example") == ["192.0.2.1"]
    assert dig(sandbox, "second.example") == ["192.0.2.1"]
    assert [asked.name for asked in dead.queries] == ["first.example"]


@needs_dig
def test_a_server_that_cannot_help_is_passed_over(names: Names, servers: contextlib.ExitStack) -> None:
    sandbox = names.sandbox()
    serve(servers, sandbox, "127.0.0.7", lambda asked, _: dns.answer(asked, dns.SERVFAIL))
    serve(servers, sandbox, "127.0.0.8", lambda asked, _: dns.answer(asked, dns.NXDOMAIN))
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.9", "127.0.0.7", "127.0.0.8"]))
    assert status_of(sandbox, "nowhere.example") == "NXDOMAIN"
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.9", "127.0.0.7"]))
    assert status_of(sandbox, "nowhere.example") == "SERVFAIL"


@needs_dig
def test_single_labels_stay_inside_when_the_user_chose_ndots(names: Names, servers: contextlib.ExitStack) -> None:
    sandbox = names.sandbox()
    server = serve(servers, sandbox, "127.0.0.7", always("192.0.2.1"))
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7"], single_labels=False))
    assert status_of(sandbox, "printer") == "NXDOMAIN"
    assert dig(sandbox, "printer.lan") == ["192.0.2.1"]
    assert [asked.name for asked in server.queries] == ["printer.lan"]


def test_n4_forged_answers_are_not_believed(names: Names, servers: contextlib.ExitStack) -> None:
    def answer(asked: dns.Query, _stream: bool) -> bytes | None:
        if asked.name == "guessed.example":
            return dns.with_id(always("6.6.6.6")(asked, False) or b"", asked.id ^ 1)
        other = dns.Query(query("other.example", id=asked.id))
        return always("6.6.6.6")(other, False)

    sandbox = names.sandbox()
    liar = serve(servers, sandbox, "127.0.0.7", answer)
    honest = serve(servers, sandbox, "127.0.0.8", always("192.0.2.1"))
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7", "127.0.0.8"]))
    for name in ("guessed.example", "swapped.example"):
        names.attach(names.resolver(sandbox, upstreams=["127.0.0.7", "127.0.0.8"]))
        with ask(sandbox, query(name)) as sock:
            assert sock.recv(512).endswith(socket.inet_aton("192.0.2.1"))
    assert liar.queries
    assert len({asked.id for asked in honest.queries} | set(honest.ports)) == 4


def test_n4_malformed_messages_get_an_error_or_nothing(names: Names) -> None:
    sandbox = names.sandbox()
    names.attach(names.resolver(sandbox))
    names.publish(endpoint("db", "10.0.0.2"))
    loop = struct.pack("!HHHHHH", 5, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
    with ask(sandbox, loop) as sock:
        assert sock.recv(512) == struct.pack("!HHHHHH", 5, 0x8001, 0, 0, 0, 0)
        for silent_one in (b"", b"\0", query("db")[:2] + b"\x81" + query("db")[3:]):
            sock.send(silent_one)
        sock.send(query("db") + bytes(5000))
        assert dns.code_of(sock.recv(512)) == dns.FORMERR
        sock.send(query("db"))
        assert sock.recv(512).endswith(socket.inet_aton("10.0.0.2"))
    for damage in range(2000):
        data = bytearray(query("db") + bytes(16))
        data[2 + damage % (len(data) - 2)] = damage * 7 & 0xFF
        data[2 + damage * 13 % (len(data) - 2)] = damage * 31 & 0xFF
        with ask(sandbox, bytes(data)):
            pass
    with ask(sandbox, query("db")) as sock:
        assert sock.recv(512).endswith(socket.inet_aton("10.0.0.2"))


def test_n4_a_stream_of_64_kb_and_clients_that_never_read_hurt_nobody(names: Names) -> None:
    sandbox = names.sandbox()
    names.attach(names.resolver(sandbox))
    names.publish(endpoint("db", "10.0.0.2"))
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            idle = stack.enter_context(connect(sandbox))
            with contextlib.suppress(OSError):
                idle.send(dns.for_stream(query("db")) * 10)
        with ask(sandbox, query("db")) as sock:
            assert sock.recv(512).endswith(socket.inet_aton("10.0.0.2"))
    waiting.until(lambda: names.status()["queries"] >= 1)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_answering_connection(sandbox))
        sock.sendall(dns.for_stream(query("db") + bytes(65000)) + dns.for_stream(query("db")))
        (length,) = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))
        assert dns.code_of(sock.recv(length, socket.MSG_WAITALL)) == dns.FORMERR
        (length,) = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))
        assert sock.recv(length, socket.MSG_WAITALL).endswith(socket.inet_aton("10.0.0.2"))


def _answering_connection(sandbox: NetworkNamespace) -> socket.socket:
    """Return a connection that is served; while the nameserver still closes earlier ones, it takes no more."""
    found: list[socket.socket] = []

    def served() -> bool:
        sock = connect(sandbox)
        try:
            sock.sendall(dns.for_stream(query("db")))
            (length,) = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))
            sock.recv(length, socket.MSG_WAITALL)
        except (OSError, struct.error):
            sock.close()
            return False
        found.append(sock)
        return True

    waiting.until(served, 60)
    return found[0]


@needs_dig
def test_n4_ten_thousand_pending_queries_leave_local_names_alone(names: Names, servers: contextlib.ExitStack) -> None:
    sandbox = names.sandbox()
    serve(servers, sandbox, "127.0.0.7", silent)
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7"]))
    names.publish(endpoint("db", "10.0.0.2"))
    with ask(sandbox, query("q0.example")) as flood:
        for number in range(1, 10_000):
            flood.send(query(f"q{number}.example", id=number))
        # What finds the socket's buffer full is lost, as with every UDP server: resolvers ask again.
        assert dig(sandbox, "+time=2", "+tries=20", "db") == ["10.0.0.2"]
        assert names.status()["upstream_sockets"] <= 2048
        assert dns.code_of(flood.recv(512)) == dns.REFUSED
    waiting.until(lambda: names.status()["upstream_sockets"] == 0, 60)


@needs_dig
def test_names_are_resolved_while_no_daemon_lives_and_after_the_next_one_came(names: Names) -> None:
    sandbox, gone = names.sandbox(), names.sandbox()
    names.attach(names.resolver(sandbox))
    names.attach(names.resolver(gone))
    names.publish(endpoint("db", "10.0.0.2"))
    pid = names.pid()
    names.leave()
    assert dig(sandbox, "db") == ["10.0.0.2"]
    ports = sandbox.run("nft", "list", "ruleset").stdout
    again = Names(names.directory)
    try:
        again.start([names.resolver(sandbox)], [endpoint("db", "10.0.0.9")])
        assert names.pid() == pid
        assert dig(sandbox, "db") == ["10.0.0.9"]
        assert sandbox.run("nft", "list", "ruleset").stdout == ports
        assert again.status()["sandboxes"] == 1
    finally:
        again.close()


@needs_dig
def test_a_killed_nameserver_is_started_anew_with_all_it_knew(names: Names) -> None:
    sandbox = names.sandbox()
    names.attach(names.resolver(sandbox))
    names.publish(endpoint("db", "10.0.0.2"))
    pid = names.pid()
    os.kill(pid, signal.SIGKILL)
    waiting.until(lambda: names.pid() not in (0, pid))
    names.publish(endpoint("db2", "10.0.0.3"))
    assert (dig(sandbox, "db"), dig(sandbox, "db2")) == (["10.0.0.2"], ["10.0.0.3"])


@needs_dig
def test_a_nameserver_of_another_version_is_replaced(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = names.sandbox()
    names.attach(names.resolver(sandbox))
    names.publish(endpoint("db", "10.0.0.2"))
    old = names.pid()
    assert os.getpriority(os.PRIO_PROCESS, old) == -10  # names are waited for
    names.leave()
    monkeypatch.setattr("boxship.engine.processes.resident.__version__", "9.9.9")
    again = Names(names.directory)
    try:
        again.start([names.resolver(sandbox)], [endpoint("db", "10.0.0.2")])
        waiting.until(lambda: not Path(f"/proc/{old}").exists())
        assert names.pid() != old
        assert dig(sandbox, "db") == ["10.0.0.2"]
    finally:
        again.close()


def test_a_nameserver_with_nobody_to_answer_ends_with_its_daemon(names: Names) -> None:
    sandbox = names.sandbox()
    names.attach(names.resolver(sandbox))
    names.detach(f"sandbox-{sandbox.pid}")
    names.detach("unknown")
    names.leave()
    waiting.until(lambda: not names.pid())


def test_a_sandbox_that_cannot_be_entered_is_refused_and_leaves_nothing(names: Names) -> None:
    sandbox = names.sandbox()
    resolver = names.resolver(sandbox)
    missing = type(resolver)(sandbox_id="missing", key="/nonexistent", network_ids=["front"])
    with pytest.raises(SystemFailure, match="No such file or directory"):
        names.attach(missing)
    names.attach(resolver)
    assert names.status()["sandboxes"] == 1


def test_a_released_sandbox_lets_its_namespace_end(names: Names, servers: contextlib.ExitStack) -> None:
    sandbox = names.sandbox()
    serve(servers, sandbox, "127.0.0.7", silent)
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7"]))
    pid = names.pid()
    before = len(os.listdir(f"/proc/{pid}/fd"))
    other = names.sandbox()
    names.attach(names.resolver(other, upstreams=["127.0.0.7"]))
    with ask(other, query("q.example")):
        waiting.until(lambda: names.status()["queries"] >= 1)
        names.detach(f"sandbox-{other.pid}")
    waiting.until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before)
    assert names.status()["upstream_sockets"] == 0


_RESOLVER = """
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
int main(int count, char **words) {
  for (int word = 1; word < count; word++) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *each;
    int failed = getaddrinfo(words[word], 0, &hints, &found);
    printf("%s", words[word]);
    if (failed) { printf(" %s\\n", failed == EAI_AGAIN ? "again" : "none"); continue; }
    for (each = found; each; each = each->ai_next) {
      char text[64];
      getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
      printf(" %s", text);
    }
    printf("\\n");
  }
}
"""


@pytest.mark.row("IMG-17")
@pytest.mark.parametrize(
    ("compiler", "ndots"),
    [
        ("gcc", 0),
        ("gcc", 1),
        ("musl-gcc", 1),  # with 0, which Docker sets, musl takes every name as it is
    ],
)
def test_resolvers_of_c_libraries_walk_the_search_list(
    names: Names, servers: contextlib.ExitStack, tmp_path: Path, compiler: str, ndots: int
) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "resolve.c").write_text(_RESOLVER)
    program = tmp_path / "resolve"
    static = ["-static"] if compiler == "musl-gcc" else []
    subprocess.run([compiler, *static, "-o", program, tmp_path / "resolve.c"], check=True)

    def answer(asked: dns.Query, _stream: bool) -> bytes:
        if asked.name != "printer.corp.example":
            return dns.answer(asked, dns.NXDOMAIN)
        return always("192.0.2.9")(asked, False) or b""

    sandbox = names.sandbox()
    serve(servers, sandbox, "127.0.0.7", answer)
    names.attach(names.resolver(sandbox, upstreams=["127.0.0.7"], single_labels=not ndots))
    names.publish(endpoint("db", "10.0.0.2", "fd00::2"))
    names.publish(endpoint("old", "10.0.0.3"))
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver 127.0.0.11\nsearch first.example corp.example\noptions ndots:{ndots}\n")
    script = f"mount --bind {conf} $(readlink -f /etc/resolv.conf) && exec {program} db old printer nobody"
    done = sandbox.run("unshare", "--mount", "--propagation=private", "sh", "-c", script)
    found = {line.split()[0]: set(line.split()[1:]) for line in done.stdout.splitlines()}
    assert found == {"db": {"10.0.0.2", "fd00::2"}, "old": {"10.0.0.3"}, "printer": {"192.0.2.9"}, "nobody": {"none"}}
