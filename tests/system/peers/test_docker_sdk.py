"""The Docker SDK for Python as a client."""

from __future__ import annotations

import gc
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import pytest
from docker.models.containers import Container

from harness.engine import Engine

pytestmark = [
    pytest.mark.system,
    pytest.mark.row("API-21"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # the SDK forgets those that it took over
]

LOOP = ["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine.host, timeout=60)
    yield client
    client.close()
    gc.collect()


@pytest.fixture
def sleeper(client: docker.DockerClient) -> Container:
    return client.containers.run("busybox", LOOP, detach=True, name="sleeper")


def wait_for_output(container: Container, expected: bytes) -> None:
    """Follow the log until it holds what is expected, so that a signal meets the program and not its beginning."""
    received = b""
    stream = container.logs(stream=True, follow=True)
    for chunk in stream:
        received += chunk
        if received == expected:
            break
    stream.close()
    assert received == expected


def test_ping_version_and_info(client: docker.DockerClient) -> None:
    assert client.ping() is True
    assert client.version()["ApiVersion"] == client.api.api_version
    assert client.info()["OSType"] == "linux"
    assert client.df()


def test_images_are_listed_tagged_saved_and_loaded(client: docker.DockerClient) -> None:
    image = client.images.get("busybox")
    assert image.tags == ["busybox:latest"]
    assert image.attrs["Os"] == "linux"
    assert image.tag("copy/of", tag="1")
    assert {tag for each in client.images.list() for tag in each.tags} >= {"busybox:latest", "copy/of:1"}
    assert client.images.list(name="copy/of")[0].id == image.id
    image.reload()
    saved = b"".join(image.save(named="copy/of:1"))
    client.images.remove("copy/of:1")
    (loaded,) = client.images.load(saved)
    assert loaded.id == image.id
    assert "copy/of:1" in loaded.tags
    client.images.remove("copy/of:1")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("copy/of:1")
    assert image.history()[0]["Size"] > 0


def test_run_returns_the_output_and_raises_for_an_exit_code(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    both = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True)
    assert sorted(both.splitlines()) == [b"err", b"out"]
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 4"], remove=True)
    assert (caught.value.exit_status, caught.value.stderr) == (4, b"no\n")
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        client.containers.run("busybox", "nosuch", remove=True)
    with pytest.raises(docker.errors.APIError):  # it is looked for in the registry, which is out of reach
        client.containers.run("no/such:image", "true")
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("no/such:image", "true")


def test_a_life_in_single_calls(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", LOOP, name="life", labels={"a": "b"}, environment={"X": "y"})
    assert container.status == "created"
    container.start()
    assert [each.name for each in client.containers.list(filters={"label": "a=b"})] == ["life"]
    container.rename("renamed")
    container.reload()
    assert (container.name, container.status) == ("renamed", "running")
    assert container.attrs["Config"]["Env"][0] == "X=y"
    assert container.top()["Titles"][0] == "UID"
    container.pause()
    container.unpause()
    container.update(mem_limit="64m", memswap_limit="128m")
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 64 << 20
    container.restart(timeout=1)
    wait_for_output(container, b"ready\nready\n")
    container.stop()
    assert container.wait()["StatusCode"] == 3
    container.start()
    container.kill("KILL")
    assert container.wait(condition="not-running")["StatusCode"] == 137
    container.remove()
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("renamed")


def test_logs_in_one_piece_and_as_a_stream(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo one; echo two >&2; echo three"], detach=True)
    assert b"".join(container.logs(stream=True, follow=True)).count(b"\n") == 3
    assert container.logs(stdout=True, stderr=False) == b"one\nthree\n"
    assert container.logs(stderr=True, stdout=False) == b"two\n"
    assert container.logs(timestamps=True, stderr=False).endswith(b"Z three\n")


def test_exec_in_all_its_ways(sleeper: Container) -> None:
    assert sleeper.exec_run(["echo", "hi"]) == (0, b"hi\n")
    assert sleeper.exec_run("sh -c 'exit 7'").exit_code == 7
    demuxed = sleeper.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    assert demuxed.output == (b"out\n", b"err\n")
    streamed = sleeper.exec_run(["sh", "-c", "echo a; echo b"], stream=True)
    assert b"".join(streamed.output) == b"a\nb\n"
    assert sleeper.exec_run(["id", "-u"], user="app", environment=["A=b"], workdir="/tmp").output == b"1000\n"
    assert sleeper.exec_run(["tty"], tty=True).output == b"/dev/pts/0\r\n"
    sleeper.exec_run(["touch", "/done"], detach=True)
    assert sleeper.exec_run(["sh", "-c", "until [ -e /done ]; do :; done"]).exit_code == 0


def test_exec_over_a_socket(sleeper: Container) -> None:
    connection: Any = sleeper.exec_run(["cat"], stdin=True, socket=True).output
    raw: socket.socket = connection._sock
    raw.sendall(b"through")
    raw.shutdown(socket.SHUT_WR)
    received = b""
    while data := raw.recv(4096):
        received += data
    assert received == b"\x01\0\0\0\0\0\0\x07through"
    connection.close()


def test_attach_over_a_socket(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh"], stdin_open=True, tty=False)
    connection: Any = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    container.start()
    connection._sock.sendall(b"echo hello; exit 6\n")
    received = b""
    while data := connection._sock.recv(4096):
        received += data
    assert received == b"\x01\0\0\0\0\0\0\x06hello\n"
    assert container.wait()["StatusCode"] == 6
    connection.close()


def test_attach_as_a_stream(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "echo out; echo err >&2"])
    stream = container.attach(stream=True, demux=True)
    container.start()
    parts = list(stream)
    assert b"".join(out for out, _ in parts if out) == b"out\n"
    assert b"".join(err for _, err in parts if err) == b"err\n"


def test_stats_once_and_as_a_stream(sleeper: Container) -> None:
    once = sleeper.stats(stream=False)
    assert once["memory_stats"]["usage"] > 0
    assert once["networks"]["eth0"]["rx_bytes"] >= 0
    stream = sleeper.stats(stream=True, decode=True)
    assert next(stream)["cpu_stats"]["online_cpus"] >= 1
    stream.close()


def test_events_arrive_while_they_happen(client: docker.DockerClient) -> None:
    stream = client.events(decode=True, filters={"type": "container"})
    actions: list[str] = []

    def listen() -> None:
        for event in stream:
            actions.append(event["Action"])
            if event["Action"] == "destroy":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    client.containers.run("busybox", "true", remove=True)
    listener.join(20)
    stream.close()
    assert [action for action in actions if action != "attach"] == ["create", "start", "die", "destroy"]


def test_prune_takes_what_has_stopped(client: docker.DockerClient, sleeper: Container) -> None:
    stopped = client.containers.create("busybox", "true")
    pruned = client.containers.prune()
    assert pruned["ContainersDeleted"] == [stopped.id]
    assert client.images.prune()["SpaceReclaimed"] == 0
    assert [each.name for each in client.containers.list(all=True)] == ["sleeper"]


def test_networks_are_listed(client: docker.DockerClient) -> None:
    assert {each.name for each in client.networks.list()} == {"bridge", "host", "none"}
    assert client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"] == "172.17.0.0/16"


def test_volumes_are_made_used_and_removed(client: docker.DockerClient) -> None:
    volume = client.volumes.create("data", labels={"a": "b"})
    volumes = {"data": {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo kept > /data/file"], volumes=volumes, remove=True)
    assert client.containers.run("busybox", ["cat", "/data/file"], volumes=volumes, remove=True) == b"kept\n"
    assert [each.name for each in client.volumes.list(filters={"label": "a=b"})] == ["data"]
    volume.remove()
    assert client.volumes.list() == []


def test_a_published_port_is_shown(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox", LOOP, detach=True, ports={"80/tcp": None, "53/udp": ("127.0.0.1", 5353)}
    )
    container.reload()
    assert container.ports["53/udp"] == [{"HostIp": "127.0.0.1", "HostPort": "5353"}]
    assert int(container.ports["80/tcp"][0]["HostPort"]) > 0


def test_export_and_diff(sleeper: Container) -> None:
    sleeper.exec_run(["sh", "-c", "echo new > /new"])
    assert {"Path": "/new", "Kind": 1} in sleeper.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(sleeper.export()))) as tar:
        assert tar.extractfile("new").read() == b"new\n"  # type: ignore[union-attr]
