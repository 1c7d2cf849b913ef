"""Clients, input and outputs of a process, played by the test."""

import gc
import os
import socket

import pytest

from boxship.shim import pipes
from boxship.shim.clients import QUEUE_LIMIT
from boxship.shim.streams import Streams
from boxship.wire import frames


class Process:
    """The process's ends of the pipes."""

    def __init__(self, stepper, **options) -> None:
        self.ends = pipes.make(stdin=True, output=True)
        self.stdin, self.stdout, self.stderr = self.ends.child
        self.streams = Streams(
            stepper.loop, stdin=self.ends.stdin, stdout=self.ends.stdout, stderr=self.ends.stderr, **options
        )
        self.ended: list[bool] = []

    def attach(self, fd: int, **fields) -> None:
        defaults = {"stdin": False, "stdout": True, "stderr": True, "closes_input": True, "keys": b"", "leftover": b""}
        self.streams.attach(fd, **{**defaults, **fields}, on_end=self.ended.append)

    def close(self) -> None:
        self.ends.close_child()
        self.streams.close()


@pytest.fixture
def process(stepper):
    process = Process(stepper)
    yield process
    process.close()


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece
        data += piece
    return data


@pytest.mark.row("RUN-02", "API-08")
def test_output_reaches_a_client_in_frames(stepper, process):
    client, fd = stepper.pair()
    process.attach(fd)
    os.write(process.stderr, b"error")
    want = frames.encode(frames.STDERR, b"error")
    stepper.run_until(
        lambda: len(client.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT)) == len(want) if _ready(client) else False
    )
    assert client.recv(100) == want


def _ready(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def test_a_client_that_reads_nothing_stops_the_reading(stepper, process):
    _client, fd = stepper.pair()
    process.attach(fd)
    os.set_blocking(process.stdout, False)
    written = 0

    def blocked() -> bool:
        nonlocal written
        try:
            written += os.write(process.stdout, bytes(65536))
        except BlockingIOError:
            return written > QUEUE_LIMIT + pipes.PIPE_SIZE and not process.streams.reading
        return False

    stepper.run_until(blocked)
    assert written < 4 * (QUEUE_LIMIT + pipes.PIPE_SIZE)


def test_reading_goes_on_when_the_client_is_gone(stepper, process):
    client, fd = stepper.pair()
    process.attach(fd)
    os.set_blocking(process.stdout, False)

    def fill() -> bool:
        try:
            while True:
                os.write(process.stdout, bytes(65536))
        except BlockingIOError:
            return not process.streams.reading

    stepper.run_until(fill)
    client.close()
    stepper.run_until(lambda: process.ended == [False] and process.streams.reading)


def test_input_waits_for_the_process(stepper, process):
    client, fd = stepper.pair()
    client.setblocking(False)
    process.attach(fd, stdin=True, stdout=False, stderr=False, leftover=b"first ")
    sent = 0

    def full() -> bool:
        nonlocal sent
        try:
            while True:
                sent += client.send(bytes(65536))
        except BlockingIOError:
            before = sent
            stepper.loop.after(0.02, stepper.loop.stop)
            stepper.loop.run()
            try:
                sent += client.send(b"x")
            except BlockingIOError:
                return sent == before
        return False

    stepper.run_until(full)
    assert os.read(process.stdin, 6) == b"first "
    got = 0
    os.set_blocking(process.stdin, False)

    def drained() -> bool:
        nonlocal got
        try:
            got += len(os.read(process.stdin, 1 << 20))
        except BlockingIOError:
            pass
        return got == sent

    stepper.run_until(drained)


def test_the_rest_of_the_output_comes_before_the_end_and_the_end_before_the_client_s(stepper, process):
    client, fd = stepper.pair()
    process.attach(fd)
    os.write(process.stdout, b"rest")
    process.ends.close_child()
    order = []

    def reported() -> None:
        client.setblocking(False)
        data = client.recv(100)
        order.append(data)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.settimeout(10)

    process.streams.drain(reported)
    stepper.run_until(lambda: bool(order))
    assert order == [frames.encode(frames.STDOUT, b"rest")]
    assert client.recv(1) == b""
    process.ends.child = ()


def test_a_process_left_behind_does_not_hold_the_end_up_for_long(stepper, process):
    os.write(process.stdout, b"x")
    over = []
    process.streams.drain(lambda: over.append(True))  # the pipes are still open
    assert over == []
    stepper.run_until(lambda: over == [True])


def test_nothing_stays_open(stepper, descriptors):
    gc.collect()  # what earlier tests left behind is not this one's
    before = descriptors()
    process = Process(stepper)
    clients = [stepper.pair() for _ in range(5)]
    for at, (client, fd) in enumerate(clients):
        process.attach(fd, stdin=at == 0)
        client.send(b"typed")
    stepper.run_until(lambda: True)
    process.close()
    for client, _ in clients:
        client.close()
    assert descriptors() == before
