"""The Docker SDK for Python in its rarer calls: archives, events, attachments, images in and out, old versions, errors."""

from __future__ import annotations

import gc
import io
import socket
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import pytest
import requests.exceptions
from docker.models.containers import Container
from docker.types import DeviceRequest, Healthcheck, LogConfig, Mount, Ulimit
from docker.utils.socket import STDERR, STDOUT, frames_iter

from harness.engine import Engine
from harness.images import busybox_tar
from harness.waiting import until

pytestmark = [
    pytest.mark.system,
    pytest.mark.row("API-21"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # sockets that the SDK took over and forgets
]

LOOP = ["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done"]
VERSIONS = ["1.24", "1.30", "1.41", "1.44", "auto"]


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine.host, timeout=60)
    yield client
    client.close()
    gc.collect()


@pytest.fixture
def sleeper(client: docker.DockerClient) -> Container:
    return client.containers.run("busybox", ["sleep", "1000"], detach=True, name="sleeper")


def tar_of(name: str, content: bytes, **fields: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        for field, value in fields.items():
            setattr(entry, field, value)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


# Containers


@pytest.mark.row("API-06")
def test_containers_are_listed_by_all_filters(client: docker.DockerClient) -> None:
    running = client.containers.run(
        "busybox", LOOP, detach=True, name="one", labels={"k": "v"}, ports={"80/tcp": 8080}, volumes=["/data"]
    )
    ended = client.containers.run("busybox", ["false"], detach=True, name="two")
    ended.wait()
    created = client.containers.create("busybox", name="three")

    def found(**filters: object) -> list[str]:
        return [each.name for each in client.containers.list(all=True, filters=filters)]

    assert [each.name for each in client.containers.list()] == ["one"]
    assert found() == ["three", "two", "one"]
    assert found(status=["exited", "created"]) == ["three", "two"]
    assert found(exited=1) == ["two"]
    assert found(label=["k=v"]) == found(publish="8080") == found(expose="80/tcp") == ["one"]
    assert found(name="^/t") == ["three", "two"]
    assert found(id=created.id[:12]) == ["three"]
    assert found(ancestor="busybox", before="two") == ["one"]
    assert found(since=running.id) == ["three", "two"]
    assert found(volume="/data") == found(network="bridge", status="running") == ["one"]
    assert [each.name for each in client.containers.list(limit=2)] == ["three", "two"]
    assert client.api.containers(size=True)[0]["SizeRootFs"] > 1_000_000
    with pytest.raises(docker.errors.APIError, match="invalid filter 'bogus'"):
        found(bogus="1")


@pytest.mark.row("API-07")
def test_wait_knows_its_conditions(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "exit 5"])
    assert container.wait(condition="not-running")["StatusCode"] == 0
    container.start()
    assert container.wait() == {"StatusCode": 5}
    assert container.wait(condition="not-running")["StatusCode"] == 5
    with pytest.raises(docker.errors.APIError, match="invalid condition"):
        container.wait(condition="soon")
    with pytest.raises((requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError)):
        container.wait(condition="next-exit", timeout=0.3)
    removed = client.containers.run("busybox", ["sh", "-c", "sleep 0.3; exit 6"], detach=True, auto_remove=True)
    assert removed.wait(condition="removed")["StatusCode"] == 6
    with pytest.raises(docker.errors.NotFound):
        removed.reload()


def test_everything_that_a_container_can_be_created_with(client: docker.DockerClient, engine: Engine) -> None:
    container = client.containers.run(
        "busybox",
        ["sleep", "1000"],
        detach=True,
        init=True,
        cap_add=["NET_ADMIN"],
        cap_drop=["CHOWN"],
        cpu_shares=512,
        cpu_period=100000,
        cpu_quota=50000,
        cpuset_cpus="0",
        devices=["/dev/zero:/dev/nothing:r"],
        dns=["192.0.2.1"],
        dns_search=["example.org"],
        entrypoint=["env", "-u", "HOME"],
        environment=["A=b"],
        extra_hosts={"peer": "192.0.2.7"},
        group_add=[2000],
        healthcheck=Healthcheck(test=["CMD", "true"], interval=10**9),
        hostname="host",
        ipc_mode="private",
        log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
        mem_limit="64m",
        memswap_limit="128m",
        mem_reservation="32m",
        mounts=[Mount("/scratch", None, type="tmpfs", tmpfs_size=1 << 20), Mount("/named", "named")],
        oom_score_adj=100,
        pids_limit=50,
        read_only=True,
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        security_opt=["no-new-privileges"],
        shm_size="8m",
        stop_signal="SIGINT",
        sysctls={"kernel.msgmax": "4000"},
        tmpfs={"/temporary": "size=64k"},
        ulimits=[Ulimit(name="nofile", soft=100, hard=200)],
        user="app",
        volumes={str(engine.root): {"bind": "/host", "mode": "ro"}},
        working_dir="/var",
    )
    script = (
        "hostname; pwd; id -u; id -G; echo $A; ulimit -n; cat /proc/sys/kernel/msgmax; cat /proc/1/oom_score_adj; "
        "grep -c -e ' /scratch tmpfs rw' -e ' /temporary tmpfs rw' -e ' /named ' -e ' /host ' /proc/mounts; "
        "grep -e NoNewPrivs /proc/self/status; cat /etc/resolv.conf; grep peer /etc/hosts; "
        "touch /x 2>&1; ls /dev/nothing"
    )
    shown = container.exec_run(["sh", "-c", script]).output.decode()
    assert shown.split() == [
        "host",
        "/var",
        "1000",
        "1000",
        "2000",
        "b",
        "100",
        "4000",
        "100",
        "4",
        "NoNewPrivs:",
        "1",
        "search",
        "example.org",
        "nameserver",
        "192.0.2.1",
        "192.0.2.7",
        "peer",
        "touch:",
        "/x:",
        "Read-only",
        "file",
        "system",
        "/dev/nothing",
    ]
    container.reload()
    settings = container.attrs["HostConfig"]
    assert (settings["CpuQuota"], settings["Memory"], settings["PidsLimit"]) == (50000, 64 << 20, 50)
    assert container.top(ps_args="-o pid,args")["Processes"][0][1].startswith("/sbin/docker-init -- env -u HOME sleep")
    container.remove(force=True, v=True)
    client.volumes.get("named").remove()
    with pytest.raises(docker.errors.APIError, match="could not select device driver"):
        client.containers.run("busybox", "true", device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])])


@pytest.mark.row("API-11")
def test_archives_go_in_and_out(sleeper: Container, client: docker.DockerClient) -> None:
    assert sleeper.put_archive("/tmp", tar_of("file", b"content", mode=0o640, uid=1000))
    assert sleeper.exec_run("stat -c '%a %u %s' /tmp/file").output == b"640 1000 7\n"
    stream, stat = sleeper.get_archive("/tmp/file", chunk_size=1024)
    assert (stat["name"], stat["size"], stat["linkTarget"]) == ("file", 7, "")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.getnames() == ["file"]
        assert tar.extractfile("file").read() == b"content"  # type: ignore[union-attr]
    stream, _ = sleeper.get_archive("/etc", encode_stream=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert "etc/passwd" in tar.getnames()
    with pytest.raises(docker.errors.NotFound):
        sleeper.get_archive("/nosuch")
    with pytest.raises(docker.errors.NotFound):
        sleeper.put_archive("/nosuch", tar_of("x", b""))
    assert {(each["Path"], each["Kind"]) for each in sleeper.diff()} == {("/tmp", 0), ("/tmp/file", 1)}


@pytest.mark.row("API-09")
def test_logs_follow_count_and_time(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox", ["sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; echo e >&2; sleep 1000"], detach=True
    )
    until(lambda: container.logs().endswith(b"e\n"))
    assert container.logs(tail=3, stderr=False) == b"4\n5\n"  # the third is on the other stream
    assert container.logs(tail=0) == b""
    assert container.logs(since=int(time.time()) + 3600) == b""
    assert container.logs(until=int(time.time()) - 3600) == b""
    stamp = container.logs(timestamps=True, tail=1).split()[0]
    assert stamp.endswith(b"Z")
    follower = container.logs(stream=True, follow=True, stderr=False)
    assert [next(follower) for _ in range(5)] == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]
    container.kill()
    assert list(follower) == []


@pytest.mark.row("API-08")
def test_attached_sockets_and_terminals(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "read x; echo got $x; echo e >&2"], stdin_open=True)
    connection: Any = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    container.start()
    connection._sock.sendall(b"word\n")
    assert sorted(frames_iter(connection, tty=False)) == [(STDOUT, b"got word\n"), (STDERR, b"e\n")]
    terminal = client.containers.create("busybox", ["sh", "-c", "tty; stty size; read x"], stdin_open=True, tty=True)
    connection = terminal.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    terminal.start()
    terminal.resize(40, 100)
    connection._sock.sendall(b"\n")
    output = b"".join(data for _, data in frames_iter(connection, tty=True))
    assert output.startswith(b"/dev/pts/0\r\n")
    late = client.containers.run("busybox", ["sh", "-c", "echo early; sleep 1000"], detach=True)
    until(lambda: late.logs() == b"early\n")
    assert next(late.attach(stream=True, logs=True)) == b"early\n"


@pytest.mark.row("API-10")
def test_execs_through_the_low_level_client(sleeper: Container, client: docker.DockerClient) -> None:
    api = client.api
    exec_id = api.exec_create(sleeper.id, ["sh", "-c", "echo $A; pwd; id -un; cat; exit 9"], stdin=True,
                              environment={"A": "b"}, workdir="/etc", user="app")["Id"]  # fmt: skip
    assert api.exec_inspect(exec_id)["Running"] is False
    connection: Any = api.exec_start(exec_id, socket=True)
    raw: socket.socket = connection._sock
    raw.sendall(b"typed")
    raw.shutdown(socket.SHUT_WR)
    assert b"".join(data for _, data in frames_iter(connection, tty=False)) == b"b\n/etc\napp\ntyped"
    until(lambda: api.exec_inspect(exec_id)["Running"] is False)
    inspected = api.exec_inspect(exec_id)
    assert (inspected["ExitCode"], inspected["ProcessConfig"]["user"]) == (9, "app")
    assert exec_id in (client.api.inspect_container(sleeper.id)["ExecIDs"] or [exec_id])
    on_terminal = api.exec_create(sleeper.id, ["sh", "-c", "stty size; read x"], tty=True, stdin=True)["Id"]
    connection = api.exec_start(on_terminal, tty=True, socket=True)
    api.exec_resize(on_terminal, height=40, width=100)
    connection._sock.sendall(b"\n")
    assert b"\r\n" in b"".join(data for _, data in frames_iter(connection, tty=True))
    assert sleeper.exec_run(["nosuch"]).exit_code == 127
    with pytest.raises(docker.errors.APIError, match="has already run"):
        api.exec_start(exec_id)
    with pytest.raises(docker.errors.NotFound):
        api.exec_inspect("nosuch")
    sleeper.pause()
    with pytest.raises(docker.errors.APIError, match="is paused, unpause the container before exec"):
        sleeper.exec_run("true")


def test_commit_makes_an_image(sleeper: Container, client: docker.DockerClient) -> None:
    sleeper.exec_run("touch /made")
    image = sleeper.commit(
        repository="made", tag="1", message="why", author="who", changes="ENV A=b", conf={"Cmd": ["x"]}
    )
    assert image.tags == ["made:1"]
    assert (image.attrs["Author"], image.attrs["Comment"], image.attrs["Config"]["Env"][-1]) == ("who", "why", "A=b")
    assert client.containers.run(image, ["ls", "/made"], remove=True) == b"/made\n"
    client.images.remove(image.id, force=True)


@pytest.mark.row("API-11")
def test_stats_of_both_kinds(sleeper: Container, client: docker.DockerClient) -> None:
    stream = sleeper.stats(stream=True, decode=True)
    first, second = next(stream), next(stream)
    assert second["read"] > first["read"]
    assert second["precpu_stats"]["cpu_usage"]["total_usage"] == first["cpu_stats"]["cpu_usage"]["total_usage"]
    stream.close()
    once = client.api.stats(sleeper.id, stream=False, one_shot=True)
    assert "system_cpu_usage" not in once["precpu_stats"]
    assert once["pids_stats"]["current"] == 1


@pytest.mark.row("API-04")
def test_events_of_the_past_are_filtered_and_decoded(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "exit 2"], detach=True, name="past", labels={"a": "b"})
    container.wait()
    last = container.attrs["Id"]
    client.images.get("busybox").tag("past", "1")
    client.images.remove("past:1")

    def past(**filters: object) -> list[Any]:
        stream = client.events(decode=True, since=0, until=time.time() + 0.2, filters=filters)
        return list(stream)

    died = past(container="past", event="die")
    assert [(each["Actor"]["ID"], each["Actor"]["Attributes"]["exitCode"]) for each in died] == [(last, "2")]
    assert {each["Action"] for each in past(type="image", image="past:1")} <= {"tag", "untag"}
    labelled = past(label="a=b", type=["container"])
    assert {"create", "start", "die"} <= {each["Action"] for each in labelled}
    assert labelled == sorted(labelled, key=lambda each: each["timeNano"])


# Images


@pytest.mark.row("API-12")
def test_images_are_imported_in_all_ways(client: docker.DockerClient, engine: Engine) -> None:
    api = client.api
    data = tar_of("file", b"x")
    assert "sha256:" in api.import_image_from_data(data, repository="from", tag="data", changes=["CMD x"])
    (engine.root / "root.tar").write_bytes(data)
    assert "sha256:" in api.import_image_from_file(str(engine.root / "root.tar"), repository="from", tag="file")
    assert "sha256:" in api.import_image_from_stream(iter([data]), repository="from", tag="stream")
    assert sorted(tag for image in client.images.list("from") for tag in image.tags) == [
        "from:data",
        "from:file",
        "from:stream",
    ]
    image = client.images.get("from:data")
    assert image.attrs["Config"]["Cmd"] == ["/bin/sh", "-c", "x"]
    assert image.history()[0]["Comment"] == "Imported from -"
    assert image.short_id == image.id[:19]
    assert client.images.list(filters={"reference": "from:d*"}) == [image]
    saved = b"".join(image.save(named=True))
    api.remove_image("from:data")
    assert client.images.load(saved)[0].tags == ["from:data"]
    assert client.images.list(filters={"dangling": True}) == []
    pruned = client.images.prune(filters={"dangling": False})
    assert {each["Untagged"] for each in pruned["ImagesDeleted"] if "Untagged" in each} >= {"from:data", "from:file"}
    api.import_image_from_data(busybox_tar(), repository="busybox", changes=['CMD ["sh"]'])


@pytest.mark.row("API-12")
def test_image_errors_have_their_classes(client: docker.DockerClient, sleeper: Container) -> None:
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("no/such:image")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.remove("no/such:image")
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("no/such:image")
    with pytest.raises(docker.errors.APIError) as caught:
        client.images.remove("busybox")
    assert caught.value.status_code == 409
    assert "conflict: unable to remove repository reference" in caught.value.explanation
    with pytest.raises(docker.errors.APIError) as caught:
        client.images.load(b"no tar at all")
    assert caught.value.is_error()


# Other kinds of objects


@pytest.mark.row("API-15", "API-19")
def test_volumes_are_listed_created_and_pruned(client: docker.DockerClient) -> None:
    volume = client.volumes.create("data", driver="local", labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"}
    assert volume.attrs["Mountpoint"].endswith("/volumes/data/_data")
    assert client.volumes.list(filters={"dangling": True, "driver": "local", "name": "dat"}) == [volume]
    with pytest.raises(docker.errors.APIError, match="nosuch"):
        client.volumes.create("other", driver="nosuch")
    assert client.volumes.prune()["VolumesDeleted"] == []
    assert client.volumes.prune(filters={"all": True, "label": "a"})["VolumesDeleted"] == ["data"]
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("data")


@pytest.mark.row("API-14")
def test_networks_are_listed_inspected_and_pruned(client: docker.DockerClient, sleeper: Container) -> None:
    bridge = client.networks.get("bridge")
    assert list(bridge.attrs["Containers"]) == [sleeper.id]
    assert [each.name for each in bridge.containers] == ["sleeper"]
    assert [each.name for each in client.networks.list(names=["host"])] == ["host"]
    assert client.networks.list(filters={"type": "custom"}) == []
    assert client.networks.prune()["NetworksDeleted"] in (None, [])
    with pytest.raises(docker.errors.NotFound):
        client.networks.get("nosuch")
    with pytest.raises(docker.errors.APIError) as caught:
        bridge.remove()
    assert caught.value.status_code == 403


@pytest.mark.row("API-05")
def test_errors_have_their_classes(client: docker.DockerClient, sleeper: Container) -> None:
    with pytest.raises(docker.errors.NotFound, match="No such container: nosuch"):
        client.containers.get("nosuch")
    with pytest.raises(docker.errors.APIError) as caught:
        client.containers.create("busybox", name="sleeper")
    assert (caught.value.status_code, caught.value.is_client_error()) == (409, True)
    with pytest.raises(docker.errors.APIError) as caught:
        sleeper.remove()
    assert caught.value.status_code == 409
    with pytest.raises(docker.errors.APIError, match="is not paused"):
        sleeper.unpause()
    with pytest.raises(docker.errors.APIError, match="invalid signal: NOPE"):
        sleeper.kill("NOPE")
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 7"], remove=True)
    assert "returned non-zero exit status 7: b'why\\n'" in str(failed.value)
    with pytest.raises(docker.errors.APIError, match="not a swarm manager"):
        client.services.list()


# The versions of the API


@pytest.mark.row("API-01")
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_serves_a_containers_life(engine: Engine, version: str) -> None:
    api = docker.APIClient(base_url=engine.host, version=version, timeout=60)
    assert api.ping() is True
    assert api.version(api_version=False)["Os"] == "linux"
    assert api.info()["OSType"] == "linux"
    config = api.create_host_config(binds=["data:/data"], port_bindings={80: None}, mem_limit="64m")
    id = api.create_container(
        "busybox",
        LOOP,
        name="life",
        ports=[80],
        labels={"version": version},
        environment={"A": "b"},
        host_config=config,
    )["Id"]
    assert api.start(id) is None
    assert api.inspect_container(id)["State"]["Running"] is True
    assert api.port(id, 80)[0]["HostPort"]
    [row] = api.containers(filters={"label": f"version={version}"})
    assert (row["Names"], row["Image"], row["State"]) == (["/life"], "busybox", "running")
    assert row["Mounts"][0]["Name"] == "data"
    command = api.exec_create(id, ["sh", "-c", "echo $A; echo e >&2"])["Id"]
    assert api.exec_start(command, demux=True) == (b"b\n", b"e\n")
    assert api.exec_inspect(command)["ExitCode"] == 0
    assert api.put_archive(id, "/tmp", tar_of("file", b"x"))
    _, stat = api.get_archive(id, "/tmp/file")
    assert stat["size"] == 1
    assert api.stats(id, stream=False)["memory_stats"]["limit"] == 64 << 20
    assert api.top(id)["Titles"]
    until(lambda: api.logs(id) == b"ready\n")
    api.rename(id, "renamed")
    api.pause(id)
    api.unpause(id)
    api.update_container(id, cpu_shares=256)
    api.restart(id, timeout=2)
    until(lambda: api.logs(id) == b"ready\n" * 2)
    api.stop(id)
    assert api.wait(id)["StatusCode"] == 3
    assert b"".join(api.export(id))
    assert api.commit(id, "life", "1")["Id"].startswith("sha256:")
    api.remove_image("life:1")
    actions = [
        each["Action"] for each in api.events(since=0, until=time.time() + 0.2, decode=True, filters={"container": id})
    ]
    assert {"create", "start", "rename", "die", "stop"} <= set(actions)
    api.remove_container(id, v=True)
    assert [each["Name"] for each in api.volumes()["Volumes"]] == ["data"]
    api.remove_volume("data")
    image = api.inspect_image("busybox")
    assert [each["Id"] for each in api.images("busybox")] == [image["Id"]]
    assert api.history("busybox")
    assert {each["Name"] for each in api.networks()} == {"bridge", "host", "none"}
    if version != "1.24":
        assert api.df()
    api.close()


@pytest.mark.row("API-01")
def test_a_version_that_is_too_new_is_refused(engine: Engine) -> None:
    api = docker.APIClient(base_url=engine.host, version="1.99")
    with pytest.raises(
        docker.errors.APIError, match=r"client version 1\.99 is too new. Maximum supported API version is"
    ):
        api.info()
    api.close()
