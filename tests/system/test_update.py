"""Changes to containers that exist: ports, mounts, environment, labels; the writable layer stays."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.row("RUN-40")]

SERVE = "mkdir -p /srv; echo $WORD > /srv/index.html; httpd -p 80 -h /srv; httpd -p 81 -h /srv; exec sleep 1000"


def serve(engine: Engine, name: str, *options: str) -> None:
    engine.docker(
        "run", "-d", "--stop-timeout", "0", "--name", name, "-e", "WORD=first", *options, "busybox", "sh", "-c", SERVE
    )
    until(lambda: "81" in engine.docker("exec", name, "netstat", "-ltn").stdout)


def fetch(engine: Engine, port: int, host: str = "127.0.0.1") -> str:
    program = f"import urllib.request; print(urllib.request.urlopen('http://{host}:{port}/', timeout=5).read().decode(), end='')"
    done = engine.namespace.run("/usr/bin/python3", "-c", program, check=False)
    return done.stdout.strip() if done.returncode == 0 else "refused"


def beside(engine: Engine, program: str) -> subprocess.Popen[str]:
    """Run Python in the engine's network namespace."""
    command = [*engine.namespace.prefix(), "/usr/bin/python3", "-c", program]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def inside(engine: Engine, name: str, program: str) -> Iterator[None]:
    """Run a server in Python in a container's network namespace; it says when it is ready."""
    pid = str(inspect(engine, name)["State"]["Pid"])
    command = ["nsenter", "-t", pid, "-n", "/usr/bin/python3", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            server.kill()


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    document: dict[str, Any] = engine.api("GET", f"/containers/{name}/json")[1]
    return document


def rules(engine: Engine) -> str:
    return engine.namespace.run("nft", "list", "ruleset").stdout


def identity(document: dict[str, Any]) -> list[Any]:
    network = document["NetworkSettings"]["Networks"]["bridge"]
    return [document["Id"], document["Name"], network["IPAddress"], network["MacAddress"]]


def test_ports_come_and_go_while_the_container_runs(engine: Engine) -> None:
    serve(engine, "web", "-p", "8080:80")
    before = inspect(engine, "web")

    engine.boxship("update", "--publish-add", "8081:81", "--publish-add", "127.0.0.1:8082:80", "web")

    assert [fetch(engine, port) for port in (8080, 8081, 8082)] == ["first"] * 3
    after = inspect(engine, "web")
    assert after["State"] == before["State"]
    assert after["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8082"}],
        "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}],
    }
    assert after["HostConfig"]["PortBindings"]["81/tcp"] == [{"HostIp": "", "HostPort": "8081"}]
    assert engine.docker("port", "web", "81").stdout == "0.0.0.0:8081\n"
    assert "0.0.0.0:8081->81/tcp" in engine.docker("ps", "--format", "{{.Ports}}").stdout

    engine.boxship("update", "--publish-rm", "8080:80", "--publish-rm", "81", "web")

    assert [fetch(engine, port) for port in (8080, 8081, 8082)] == ["refused", "refused", "first"]
    assert "8081" not in rules(engine)
    assert inspect(engine, "web")["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8082"}]
    }
    # The ports are free: for another container, and for programs of the host.
    engine.docker("run", "--rm", "-p", "8080:80", "-p", "8081:80", "busybox", "true")


def test_a_port_moves_to_another_port_of_the_container_in_one_step(engine: Engine) -> None:
    serve(engine, "web", "-p", "8080:80")
    engine.boxship("exec", "web", "sh", "-c", "mkdir /two; echo second > /two/index.html; httpd -p 82 -h /two")
    engine.boxship("update", "--publish-rm", "8080:80", "--publish-add", "8080:82", "web")
    assert fetch(engine, 8080) == "second"
    assert "80/tcp" not in inspect(engine, "web")["Config"]["ExposedPorts"]


def test_an_open_connection_survives_changes_of_other_ports(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "echo", "-p", "8080:80", "busybox", "sleep", "1000")
    server = (
        "import socket\n"
        "s = socket.create_server(('', 80)); print('ready', flush=True); c, _ = s.accept()\n"
        "while data := c.recv(100): c.sendall(data)\n"
    )
    program = (
        "import socket, sys\n"
        "s = socket.create_connection(('127.0.0.1', 8080), 5)\n"
        "for line in sys.stdin: s.sendall(line.encode()); print(s.recv(100).decode(), end='', flush=True)\n"
    )
    with inside(engine, "echo", server), beside(engine, program) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for number, change in enumerate((["--publish-add", "8090:90"], ["--publish-rm", "8090:90"], [])):
            client.stdin.write(f"{number}\n")
            client.stdin.flush()
            assert client.stdout.readline() == f"{number}\n"
            if change:
                engine.boxship("update", *change, "echo")
        client.stdin.close()


def test_datagrams_reach_a_port_that_is_published_while_they_are_sent(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "udp", "busybox", "sleep", "1000")
    server = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53)); print('ready', flush=True)\n"
        "s.sendto(*s.recvfrom(100))\n"
    )
    program = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.2); s.bind(('127.0.0.1', 40053))\n"
        "for n in range(100):\n"
        "    try: s.sendto(b'hello', ('127.0.0.1', 5353)); print(s.recv(100).decode(), flush=True); break\n"
        "    except OSError: print('none', flush=True)\n"
    )
    with inside(engine, "udp", server), beside(engine, program) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "none\n"
        engine.boxship("update", "--publish-add", "5353:53/udp", "udp")
        assert client.stdout.read().split()[-1] == "hello"
    assert inspect(engine, "udp")["NetworkSettings"]["Ports"] == {"53/udp": [{"HostIp": "0.0.0.0", "HostPort": "5353"}]}


def test_ranges_and_random_ports(engine: Engine) -> None:
    serve(engine, "web")
    engine.boxship("update", "--publish-add", "9100-9101:80-81", "--publish-add", "80", "web")
    ports = inspect(engine, "web")["NetworkSettings"]["Ports"]
    random = next(int(place["HostPort"]) for place in ports["80/tcp"] if place["HostPort"] != "9100")
    assert [fetch(engine, port) for port in (9100, 9101, random)] == ["first"] * 3
    engine.boxship("update", "--publish-rm", f"{random}:80", "web")
    assert fetch(engine, random) == "refused"
    assert inspect(engine, "web")["HostConfig"]["PortBindings"]["80/tcp"] == [{"HostIp": "", "HostPort": "9100"}]


def test_a_port_that_is_taken_is_dockers_error_and_changes_nothing(engine: Engine) -> None:
    serve(engine, "web", "-p", "8080:80")
    engine.docker("run", "-d", "--name", "other", "-p", "8090:80", "busybox", "sleep", "1000")
    before, table = inspect(engine, "web"), rules(engine)

    done = engine.boxship(
        "update", "--publish-add", "8081:81", "--publish-add", "8090:80", "--publish-rm", "8080:80", "-e", "A=1",
        "--apply", "later", "--label-add", "a=b", "--memory", "64m", "--memory-swap", "-1", "web", check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "driver failed programming external connectivity on endpoint web (" in done.stderr
    assert "Bind for 0.0.0.0:8090 failed: port is already allocated" in done.stderr
    assert inspect(engine, "web") == before
    assert sorted(rules(engine).split()) == sorted(table.split())
    assert fetch(engine, 8080) == "first"
    assert engine.docker("run", "--rm", "-p", "8081:80", "busybox", "echo", "free").stdout == "free\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--publish-rm", "9999:80"], "No public port '9999:80/tcp' published for web"),
        (["--publish-rm", "99"], "No public port '99/tcp' published for web"),
        (["--publish-add", "8080:80"], "port 8080:80/tcp is already published for web"),
        (["--mount-rm", "/nowhere"], "No mount at '/nowhere' in web"),
        (["--mount-add", "/tmp:/data"], "Duplicate mount point: /data"),
        (["--mount-add", "type=bind,src=/missing/dir,dst=/x"], "bind source path does not exist: /missing/dir"),
        (["--env", "A=2"], "the environment of a running container changes by a restart: use --apply restart"),
        (["--env", "A=2", "--apply", "now"], 'invalid value for Apply: "now"'),
        (["--label-rm", ""], "invalid label: the name is empty"),
        (["--apply", "restart"], "you must provide one or more flags"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_changes(engine: Engine, change: list[str], message: str) -> None:
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "-v", "/data", "busybox", "sleep", "1000")
    before = inspect(engine, "web")
    done = (
        engine.boxship("update", "--label-add", "x=y", *change, "web", check=False)
        if change[0] != "--apply"
        else engine.boxship("update", *change, "web", check=False)
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert inspect(engine, "web") == before


def test_a_new_environment_comes_with_a_restart_that_keeps_all_else(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "neighbour", "busybox", "sleep", "1000")
    serve(engine, "web", "-p", "8080:80", "-e", "GONE=1")
    engine.docker("exec", "web", "sh", "-c", "echo kept > /file")
    engine.docker("rm", "-f", "neighbour")  # its address is free and lower: a plain restart would take it
    before = inspect(engine, "web")

    engine.boxship("update", "-e", "WORD=second", "--env-rm", "GONE", "--apply", "restart", "web")

    after = inspect(engine, "web")
    assert identity(after) == identity(before)
    assert after["State"]["Pid"] != before["State"]["Pid"]
    assert engine.docker("exec", "web", "cat", "/file").stdout == "kept\n"
    until(lambda: fetch(engine, 8080) == "second")
    environment = engine.docker("exec", "web", "env").stdout.split()
    assert "WORD=second" in environment
    assert not [entry for entry in environment if entry.startswith("GONE=")]


def test_a_new_environment_can_wait_for_the_next_start(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "box", "-e", "A=1", "busybox", "sleep", "1000")
    done = engine.boxship("update", "-e", "A=2", "--apply", "later", "box")
    assert "environment will change at the next start" in done.stdout
    assert "A=2" in inspect(engine, "box")["Config"]["Env"]
    assert "A=1" in engine.docker("exec", "box", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ").stdout.split()
    engine.docker("restart", "-t", "0", "box")
    assert "A=2" in engine.docker("exec", "box", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ").stdout.split()


def test_a_container_that_does_not_start_with_its_changes_runs_again_without_them(
    engine: Engine, tmp_path: Path
) -> None:
    engine.docker("run", "-d", "--name", "box", "-e", "A=1", "--stop-timeout", "0", "busybox", "sleep", "1000")
    before = inspect(engine, "box")
    engine.docker("run", "-d", "--name", "other", "-p", "8090:80", "busybox", "sleep", "1000")
    done = engine.boxship("update", "-e", "A=2", "--publish-add", "8090:80", "--apply", "restart", "box", check=False)
    assert done.returncode == 1
    assert "port is already allocated" in done.stderr
    after = inspect(engine, "box")
    assert after["State"]["Running"]
    assert after["Config"] == before["Config"]
    assert after["HostConfig"] == before["HostConfig"]
    assert identity(after) == identity(before)


def test_mounts_come_and_go_while_the_container_runs(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_text("from the host")
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    pid = inspect(engine, "box")["State"]["Pid"]
    engine.docker("volume", "create", "vol")

    engine.boxship(
        "update",
        *("--mount-add", f"{tmp_path}/host:/in/a/place:ro"),
        *("--mount-add", "type=volume,src=vol,dst=/vol"),
        *("--mount-add", "type=tmpfs,dst=/scratch,tmpfs-size=1m"),
        "box",
    )

    assert inspect(engine, "box")["State"]["Pid"] == pid
    assert engine.docker("exec", "box", "cat", "/in/a/place/file").stdout == "from the host"
    assert engine.docker("exec", "box", "touch", "/in/a/place/new", check=False).returncode == 1
    engine.docker("exec", "box", "sh", "-c", "echo data > /vol/file; dd if=/dev/zero of=/scratch/x bs=512k count=1")
    assert (
        engine.docker("exec", "box", "dd", "if=/dev/zero", "of=/scratch/y", "bs=1M", "count=2", check=False).returncode
        == 1
    )
    assert {m["Destination"]: (m["Type"], m["RW"]) for m in inspect(engine, "box")["Mounts"]} == {
        "/in/a/place": ("bind", False),
        "/vol": ("volume", True),
    }
    assert "volume is in use" in engine.docker("volume", "rm", "vol", check=False).stderr

    engine.docker("restart", "-t", "0", "box")
    assert engine.docker("exec", "box", "cat", "/vol/file", "/in/a/place/file").stdout == "data\nfrom the host"

    engine.boxship("update", "--mount-rm", "/vol", "--mount-rm", "/in/a/place", "--mount-rm", "/scratch", "box")
    mounts = engine.docker("exec", "box", "cat", "/proc/mounts").stdout
    assert not [line for line in mounts.splitlines() if line.split()[1] in ("/vol", "/in/a/place", "/scratch")]
    assert inspect(engine, "box")["Mounts"] == []
    engine.docker("volume", "rm", "vol")


def test_a_mount_never_follows_a_link_out_of_the_container(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    engine.docker("exec", "box", "ln", "-s", f"/../../../..{tmp_path}/victim", "/link")
    engine.boxship("update", "--mount-add", "type=tmpfs,dst=/link/below", "box")
    assert list((tmp_path / "victim").iterdir()) == []
    assert f"tmpfs {tmp_path}/victim/below tmpfs" in engine.docker("exec", "box", "cat", "/proc/mounts").stdout
    for place in ("/proc/sys", "/proc"):
        done = engine.boxship("update", "--mount-add", f"type=tmpfs,dst={place}", "box", check=False)
        assert done.returncode == 1
        assert "cannot be mounted because it is" in done.stderr


def test_mounts_that_fail_leave_no_trace(engine: Engine, tmp_path: Path) -> None:
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    engine.docker("exec", "box", "touch", "/plain")
    mounts, diff = engine.docker("exec", "box", "cat", "/proc/mounts").stdout, engine.docker("diff", "box").stdout
    before = inspect(engine, "box")
    done = engine.boxship(
        "update",
        "--mount-add",
        "type=volume,src=fresh,dst=/vol",
        "--mount-add",
        f"{tmp_path}:/plain",
        "box",
        check=False,
    )
    assert done.returncode == 1
    assert inspect(engine, "box") == before
    assert engine.docker("exec", "box", "cat", "/proc/mounts").stdout == mounts
    assert engine.docker("diff", "box").stdout == diff
    assert "fresh" not in engine.docker("volume", "ls", "-q").stdout.split()


def test_a_stopped_container_is_changed_as_well(engine: Engine, tmp_path: Path) -> None:
    engine.docker("create", "--name", "box", "-e", "WORD=first", "busybox", "sh", "-c", SERVE)
    (tmp_path / "file").write_text("x")
    engine.boxship(
        "update", "-e", "WORD=second", "--publish-add", "8080:80", "--mount-add", f"{tmp_path}:/host",
        "--label-add", "tier=front", "--restart", "on-failure:3", "box",
    )  # fmt: skip
    engine.docker("start", "box")
    until(lambda: fetch(engine, 8080) == "second")
    assert engine.docker("exec", "box", "cat", "/host/file").stdout == "x"
    document = inspect(engine, "box")
    assert document["Config"]["Labels"] == {"tier": "front"}
    assert document["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert engine.docker("ps", "-q", "--filter", "label=tier=front").stdout != ""
    engine.boxship("update", "--label-rm", "tier", "box")
    assert inspect(engine, "box")["Config"]["Labels"] == {}


def test_changes_outlive_the_engine_and_restarts(fresh_engine: Engine) -> None:
    engine = fresh_engine
    serve(engine, "web", "-p", "8080:80")
    engine.boxship(
        "update", "--publish-add", "8081:81", "--publish-rm", "8080:80", "--mount-add", "type=tmpfs,dst=/t", "web"
    )
    engine.kill()
    engine.start()
    assert [fetch(engine, port) for port in (8080, 8081)] == ["refused", "first"]
    engine.docker("restart", "web")
    until(lambda: fetch(engine, 8081) == "first")
    assert fetch(engine, 8080) == "refused"
    assert "/t tmpfs" in engine.docker("exec", "web", "cat", "/proc/mounts").stdout


@pytest.mark.parametrize("point", ["change.before-row", "change.after-row", "change.done"])
def test_a_change_that_is_cut_off_is_made_whole_or_not_at_all(fresh_engine: Engine, point: str) -> None:
    engine = fresh_engine
    serve(engine, "web", "-p", "8080:80")
    engine.kill()
    engine.environment = {"BOXSHIP_FAILPOINT": point}
    engine.start()
    engine.boxship(
        "update", "--publish-add", "8081:81", "--publish-rm", "8080:80", "--mount-add", "type=volume,src=vol,dst=/v",
        "--label-add", "a=b", "web", check=False,
    )  # fmt: skip
    assert engine.process is not None
    engine.process.wait(20)
    engine.process = None
    engine.environment = {}
    engine.start()

    whole = point != "change.before-row"
    document = inspect(engine, "web")
    assert [fetch(engine, port) for port in (8080, 8081)] == (["refused", "first"] if whole else ["first", "refused"])
    assert document["Config"]["Labels"] == ({"a": "b"} if whole else {})
    assert ("81/tcp" in document["NetworkSettings"]["Ports"]) is whole
    assert bool(document["Mounts"]) is whole
    assert (" /v " in engine.docker("exec", "web", "cat", "/proc/mounts").stdout) is whole
    assert (engine.docker("volume", "rm", "vol", check=False).returncode == 1) is whole


@pytest.mark.parametrize("point", ["change.after-row", "change.stopped", "change.done"])
def test_a_change_by_restart_that_is_cut_off_is_finished(fresh_engine: Engine, point: str) -> None:
    engine = fresh_engine
    serve(engine, "web", "-p", "8080:80")
    before = inspect(engine, "web")
    engine.kill()
    engine.environment = {"BOXSHIP_FAILPOINT": point}
    engine.start()
    engine.boxship("update", "-e", "WORD=second", "--apply", "restart", "web", check=False)
    assert engine.process is not None
    engine.process.wait(20)
    engine.process = None
    engine.environment = {}
    engine.start()
    until(lambda: fetch(engine, 8080) == "second")
    assert identity(inspect(engine, "web")) == identity(before)


def test_the_call_is_one_document_for_api_clients(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    status, made = engine.api(
        "POST",
        "/v1.51/boxship/containers/box/change",
        {"SetLabels": {"a": "b"}, "AddPorts": {"80/tcp": [{"HostPort": "8085"}]}, "Resources": {"PidsLimit": 77}},
    )
    assert (status, made) == (200, {"Warnings": [], "Restarted": False, "Later": []})
    document = inspect(engine, "box")
    assert document["HostConfig"]["PidsLimit"] == 77
    assert document["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "8085"
    assert engine.api("POST", "/boxship/containers/nobody/change", {})[0] == 404
    assert engine.api("POST", "/boxship/containers/box/change", {"AddPorts": {"x": [{}]}})[0] == 400
