"""Attached clients: output, input, terminals, detaching, slow and vanished readers."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
import threading

import pytest

from boxship.wire import jsonlog

pytestmark = pytest.mark.system

INTERACTIVE = {"stdin": True, "stdin_once": True}
TERMINAL = {"tty": True, "stdin": True, "stdin_once": True, "console_size": [40, 100]}


@pytest.mark.row("RUN-02", "API-08")
def test_a_client_of_the_start_gets_everything_by_stream(host):
    ours, theirs = socket.socketpair()
    with theirs:
        container = host.container("sh", "-c", "echo out; echo err >&2", attach=[{"stdout": True, "stderr": True}])
        control = container.launch((theirs.fileno(),))
    assert control.client(ours).read() == (b"out\n", b"err\n")
    assert control.event("exited")["code"] == 0


@pytest.mark.row("RUN-04", "RUN-25")
def test_half_closed_input_ends_the_program_s_input(host):
    container = host.container("sh", "-c", "cat; echo bye", stdio=INTERACTIVE)
    control = container.launch()
    client = control.attach(stdin=True, leftover="aGVsbG8g")
    client.send(b"world\n")
    client.half_close()
    assert client.read() == (b"hello world\nbye\n", b"")
    assert control.event("exited")["code"] == 0


@pytest.mark.row("RUN-04")
def test_a_hundred_megabytes_come_back_unchanged(host):
    container = host.container("cat", stdio=INTERACTIVE, log={"driver": "none"})
    control = container.launch()
    client = control.attach(stdin=True)
    block = random.Random(1).randbytes(1 << 20)
    sent = hashlib.sha256()

    def send() -> None:
        for number in range(100):
            piece = struct.pack("Q", number) + block[8:]
            sent.update(piece)
            client.send(piece)
        client.half_close()

    thread = threading.Thread(target=send)
    thread.start()
    got, size = hashlib.sha256(), 0
    decoder = client._decoder
    while piece := client.sock.recv(1 << 20):
        for _, payload in decoder.feed(piece):
            got.update(payload)
            size += len(payload)
    thread.join()
    assert size == 100 << 20
    assert got.digest() == sent.digest()
    assert control.event("exited")["code"] == 0


def test_without_stdin_once_the_input_outlives_its_client(host):
    container = host.container("sh", "-c", "while read line; do echo got $line; done", stdio={"stdin": True})
    control = container.launch()
    for word in (b"one", b"two"):
        client = control.attach(stdin=True)
        client.send(word + b"\n")
        assert client.read_until(b"got " + word + b"\n")
        client.half_close()
        # As in Docker the end of input ends such an attachment, and the container does not notice.
        assert client.read_raw() == b""
    assert control.request("status")["state"] == "running"


def test_a_client_that_vanishes_closes_a_stdin_that_is_open_once(host):
    container = host.container("sh", "-c", "cat; echo bye", stdio=INTERACTIVE)
    control = container.launch()
    control.attach(stdin=True).close()
    assert control.event("exited")["code"] == 0
    assert b"bye" in container.log.read_bytes()


def test_without_stdin_the_program_reads_nothing(host):
    container = host.container("cat")
    assert container.run()["code"] == 0


@pytest.mark.row("RUN-04")
def test_a_terminal_has_its_size_before_the_program_starts_and_after_a_resize(host):
    container = host.container("sh", "-c", "stty size; tty; read x; stty size", stdio=TERMINAL)
    control = container.launch()
    client = control.attach(stdin=True)
    if b"40 100" not in container.log.read_bytes():
        client.read_until(b"40 100\r\n")
    assert control.request("resize", height=50, width=132, exec_id=None)["ok"]
    client.send(b"\n")
    assert b"50 132\r\n" in client.read_raw()
    assert control.event("exited")["code"] == 0
    log = b"".join(record.log for record in jsonlog.parse_lines(container.log.read_bytes().splitlines()))
    assert log.startswith(b"40 100\r\n")
    assert b"/dev/pts/0\r\n" in log


@pytest.mark.row("RUN-05")
def test_detach_keys_detach_and_the_container_runs_on(host):
    container = host.container("sh", "-c", "stty -echo raw; echo up; cat", stdio=TERMINAL)
    control = container.launch()
    first = control.attach(stdin=True, detach_keys=[16, 17])
    if b"up" not in container.log.read_bytes():
        first.read_until(b"up")
    first.send(b"\x10x")
    first.read_until(b"\x10x")
    first.send(b"\x10")
    first.send(b"\x11")
    assert first.read_raw() == b""
    assert control.event("detached")["exec_id"] is None
    second = control.attach(stdin=True, detach_keys=[ord("q")])
    second.send(b"\x10\x11")
    assert second.read_until(b"\x10\x11")
    second.send(b"q")
    assert second.read_raw() == b""
    control.event("detached")
    assert control.request("status")["state"] == "running"


def test_detach_keys_are_ordinary_bytes_without_a_terminal(host):
    container = host.container("cat", stdio=INTERACTIVE)
    control = container.launch()
    client = control.attach(stdin=True, detach_keys=[16, 17])
    client.send(b"\x10\x11")
    client.half_close()
    assert client.read() == (b"\x10\x11", b"")


@pytest.mark.row("RUN-25")
def test_several_clients_see_the_same_and_only_what_they_asked_for(host):
    container = host.container("sh", "-c", "read x; echo out; echo err >&2", stdio=INTERACTIVE)
    control = container.launch()
    both, out = control.attach(stdin=True), control.attach(stderr=False)
    both.send(b"\n")
    assert both.read() == (b"out\n", b"err\n")
    assert out.read() == (b"out\n", b"")


@pytest.mark.row("RUN-25")
def test_a_slow_reader_holds_the_program_up_and_gets_everything(host):
    container = host.container(
        "sh", "-c", "head -c 20000000 /dev/zero; echo done >&2", stdio=INTERACTIVE, log={"driver": "none"}
    )
    container.start_document["spec"]["mounts"].append(
        {"destination": "/dev/zero", "type": "bind", "source": "/dev/zero", "options": ["bind"]}
    )
    control = container.launch()
    client = control.attach()
    control.event("running")
    assert control.request("status")["state"] == "running"
    out, err = client.read()
    assert (len(out), err) == (20_000_000, b"done\n")
    control.event("exited")


def test_a_reader_that_vanishes_does_not_hold_the_program_up(host):
    container = host.container("sh", "-c", "read x; yes | head -c 8000000 >&2", stdio=INTERACTIVE)
    control = container.launch()
    deaf, writer = control.attach(), control.attach(stdin=True, stdout=False, stderr=False)
    writer.send(b"\n")
    assert deaf.sock.recv(1)
    deaf.close()
    assert control.event("exited")["code"] == 0


def test_clients_may_read_on_after_the_end(host):
    container = host.container("sh", "-c", "read x; yes | head -c 1000000", stdio=INTERACTIVE)
    control = container.launch()
    client = control.attach(stdin=True)
    client.send(b"\n")
    assert control.event("exited")["code"] == 0
    control.wait_closed()
    assert container.left_behind() == []
    assert client.read() == (b"y\n" * 500_000, b"")


@pytest.mark.row("RUN-04")
def test_an_input_that_nobody_reads_ends_with_the_container(host):
    container = host.container("sh", "-c", "read go; exec 0<&-; echo up; exit 5", stdio=INTERACTIVE)
    control = container.launch()
    client = control.attach(stdin=True)
    client.send(b"go\n")
    try:
        for _ in range(64):
            client.send(bytes(1 << 16))
    except ConnectionError:
        pass
    assert control.event("exited")["code"] == 5


def shim_descriptors(container) -> int:
    return len(os.listdir(f"/proc/{container.shim_pid}/fd"))


def test_hundreds_of_abrupt_clients_leave_no_descriptor(host, wait_for):
    """Attack A4: attach, resize and exec with sudden disconnects."""
    container = host.container("sh", "-c", "while :; do echo x; sleep 0.001; done", stdio=INTERACTIVE)
    control = container.launch()
    control.event("running")
    control.request("status")
    before = shim_descriptors(container)
    for round in range(300):
        client = control.attach(stdin=False)
        control.request("resize", height=round + 1, width=10)
        client.close()
        if round % 20 == 0:
            _, client = control.exec("sh", "-c", "echo hi; cat", stdin=True)
            client.close()
    wait_for(lambda: shim_descriptors(container) == before, "the old number of descriptors")
    wait_for(lambda: control.request("status")["execs"] == {}, "the end of all execs")
