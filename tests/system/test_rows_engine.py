"""Rows ENG of the feature table, as an administrator meets them: listeners, files, reload, versions, shutdown."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import SOURCE, Engine
from harness.images import busybox_tar
from harness.waiting import until

pytestmark = pytest.mark.system

WIDE = "tcp://0.0.0.0:2375"
CLI = Callable[..., subprocess.CompletedProcess[str]]
DAEMON = (sys.executable, "-c", "import sys; from boxship.daemon.main import main; sys.exit(main())")


@pytest.fixture(scope="module")
def open_engine() -> Iterator[Engine]:
    """An engine that also listens on TCP, with a label from its file and its log as JSON."""
    engine = Engine(options=[f"--host={WIDE}", "--tls=false", "--log-format=json"])
    (engine.root / "daemon.json").write_text(json.dumps({"labels": ["rack=1"], "shutdown-timeout": 2}))
    try:
        engine.start()
        (engine.root / "busybox.tar").write_bytes(busybox_tar())
        engine.docker("import", str(engine.root / "busybox.tar"), "busybox")
        yield engine
    finally:
        engine.close()


def daemon(*args: str) -> subprocess.CompletedProcess[str]:
    """Run boxshipd where it is expected to end by itself."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [*DAEMON, *args],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.row("ENG-01", "ENG-02", "CLI-03")
@pytest.mark.parametrize("program", ["docker", "boxship"])
@pytest.mark.parametrize("host", ["-H=127.0.0.1:2375", "-H=tcp://127.0.0.1:2375", "--host=tcp://localhost:2375"])
def test_one_engine_answers_on_its_socket_and_on_tcp(open_engine: Engine, program: str, host: str) -> None:
    cli = open_engine.docker if program == "docker" else open_engine.boxship
    assert cli("info", "-f", "{{.ID}}").stdout == cli(host, "info", "-f", "{{.ID}}").stdout
    assert cli(host, "run", "--rm", "busybox", "echo", "over tcp").stdout == "over tcp\n"


@pytest.mark.row("ENG-03", "ENG-26")
@pytest.mark.parametrize("program", ["docker", "boxship"])
def test_info_warns_of_an_open_port(open_engine: Engine, program: str) -> None:
    cli = open_engine.docker if program == "docker" else open_engine.boxship
    result = cli("info")
    assert "WARNING: API is accessible on http://0.0.0.0:2375 without encryption.\n" in result.stderr
    assert "Access to the remote API is equivalent to root access on the host. Refer\n" in result.stderr
    assert " Labels:\n  rack=1\n" in result.stdout
    assert "IPv4 forwarding" not in result.stderr


@pytest.mark.row("ENG-11")
def test_the_log_of_an_open_port_is_json_and_warns(open_engine: Engine) -> None:
    lines = [json.loads(line) for line in open_engine.log_text().splitlines()]
    assert all({"level", "msg", "time"} <= line.keys() for line in lines)
    assert any("without --tlsverify is insecure" in line["msg"] for line in lines if line["level"] == "warning")


@pytest.mark.row("ENG-06")
def test_sighup_takes_over_labels_and_tells_it(open_engine: Engine) -> None:
    begun = int(time.time())
    (open_engine.root / "daemon.json").write_text(
        json.dumps({"labels": ["rack=2"], "debug": True, "shutdown-timeout": 2})
    )
    assert open_engine.process is not None
    open_engine.process.send_signal(signal.SIGHUP)
    until(lambda: open_engine.api("GET", "/info")[1]["Labels"] == ["rack=2"])
    assert open_engine.api("GET", "/info")[1]["Debug"] is True
    events = open_engine.docker(
        "events", "--since", str(begun), "--until", str(int(time.time()) + 1), "-f", "type=daemon"
    ).stdout
    assert " daemon reload " in events
    assert "rack=2" in events


@pytest.mark.row("ENG-04", "CLI-04", "ENG-03")
def test_tls_lets_in_who_has_a_certificate_only(tmp_path: Path) -> None:
    certificates(tmp_path)
    files = [
        f"--tlscacert={tmp_path}/ca.pem",
        f"--tlscert={tmp_path}/server.pem",
        f"--tlskey={tmp_path}/server-key.pem",
    ]
    engine = Engine(options=["--host=tcp://127.0.0.1", "--tlsverify", *files])
    try:
        engine.start()
        mine = [f"--tlscacert={tmp_path}/ca.pem", f"--tlscert={tmp_path}/cert.pem", f"--tlskey={tmp_path}/key.pem"]
        for cli in (engine.docker, engine.boxship):
            address = ["-H", "tcp://localhost:2376", "--tlsverify"]
            assert cli(*address, *mine, "ps", "-q").stdout == ""
            assert "without" not in cli("info").stderr
            for wrong in (
                [*mine[:1]],
                [mine[0], f"--tlscert={tmp_path}/other.pem", f"--tlskey={tmp_path}/other-key.pem"],
            ):
                refused = cli(*address, *wrong, "ps", check=False)
                assert refused.returncode == 1, refused
        environment = {
            **engine.client_environment(),
            "DOCKER_HOST": "tcp://localhost:2376",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(tmp_path),
        }
        for program in (
            ["docker"],
            [sys.executable, "-c", "import sys; from boxship.cli.main import main; sys.exit(main())"],
        ):
            command = [*engine.namespace.prefix(), *program, "ps", "-q"]
            assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b""
    finally:
        engine.close()


def certificates(directory: Path) -> None:
    """Make an authority, a server's pair, a client's under docker's names, and one of a stranger."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "stranger"):
        openssl("req", "-x509", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, authority in (("server", "ca"), ("client", "ca"), ("other", "stranger")):
        openssl("req", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", "/CN=localhost")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2", "-extfile", "names"),
            *("-CA", f"{authority}.pem", "-CAkey", f"{authority}-key.pem", "-CAcreateserial"),
        )
    (directory / "client.pem").rename(directory / "cert.pem")
    (directory / "client-key.pem").rename(directory / "key.pem")


@pytest.mark.row("ENG-05")
def test_an_option_given_twice_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"debug": true}')
    result = daemon("--config-file", str(file), "--debug", "--data-root", str(tmp_path / "data"))
    assert result.returncode == 1
    assert "the following directives are specified both as a flag and in the configuration file: debug" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.row("ENG-07")
@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('{"debug": true}', 0, "configuration OK"),
        ('{"bogus": true}', 1, "bogus"),
        ('{"debug": ', 1, "unable to configure the Docker daemon with file"),
        ('{"log-level": "loud"}', 1, "loud"),
    ],
)
def test_validate_says_whether_the_file_is_right(tmp_path: Path, text: str, code: int, words: str) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(text)
    result = daemon("--validate", "--config-file", str(file), "--data-root", str(tmp_path / "data"))
    assert (result.returncode, words in result.stdout + result.stderr) == (code, True), result
    assert not (tmp_path / "data").exists()


@pytest.mark.row("ENG-08", "ENG-09", "LOG-03")
def test_the_directories_of_data_root_and_container(engine: Engine) -> None:
    engine.docker("volume", "create", "kept")
    id = engine.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo hello; sleep 100").stdout.strip()
    assert f"Docker Root Dir: {engine.data_root}\n" in engine.docker("info").stdout
    assert {"containers", "volumes", "overlay2"} <= {entry.name for entry in engine.data_root.iterdir()}
    assert (engine.data_root / "volumes/kept/_data").is_dir()
    engine.docker("volume", "rm", "kept")
    home = engine.data_root / "containers" / id
    until(lambda: (home / f"{id}-json.log").read_text() != "")
    record = json.loads((home / f"{id}-json.log").read_text())
    assert (record["log"], record["stream"], sorted(record)) == ("hello\n", "stdout", ["log", "stream", "time"])
    assert json.loads((home / "config.v2.json").read_text())["Name"] == "/web"
    assert json.loads((home / "hostconfig.json").read_text())["NetworkMode"] == "bridge"
    assert (home / "hostname").read_text() == f"{id[:12]}\n"
    assert (home / "hosts").read_text().splitlines()[-1].split("\t")[1] == id[:12]
    assert "nameserver" in (home / "resolv.conf").read_text() or (home / "resolv.conf").exists()
    assert (home / "checkpoints").is_dir()
    assert (home / "mounts").is_dir()


@pytest.mark.row("ENG-10")
def test_pid_file_and_socket_are_the_daemons(engine: Engine) -> None:
    assert engine.process is not None
    pid = int((engine.root / "boxshipd.pid").read_text())
    assert pid == engine.process.pid or Path(f"/proc/{pid}/comm").exists()
    found = engine.socket.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_uid == 0
    other = engine.root / "other"
    result = daemon(
        *(f"--pidfile={engine.root / 'boxshipd.pid'}", f"--data-root={other}", f"--exec-root={other}"),
        *(f"--host=unix://{other}.sock", f"--config-file={engine.root / 'daemon.json'}"),
    )
    assert result.returncode == 1
    assert f"process with PID {pid} is still running" in result.stderr


@pytest.mark.row("ENG-12")
def test_the_units_name_socket_and_readiness() -> None:
    units = SOURCE.parent / "packaging/systemd"
    service = (units / "boxship.service").read_text()
    assert "Type=notify" in service
    assert "boxshipd -H fd://" in service
    assert "SocketMode=0660" in (units / "boxship.socket").read_text()


@pytest.mark.row("ENG-12", "ENG-02")
def test_a_socket_handed_over_is_served_and_readiness_told(tmp_path: Path) -> None:
    engine = Engine()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        listener.bind(str(engine.socket))
        listener.listen()
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        script = (
            f"import os, sys; os.dup2({listener.fileno()}, 3); os.set_inheritable(3, True); "
            "os.environ['LISTEN_PID'] = str(os.getpid()); "
            f"os.execv({sys.executable!r}, {[*DAEMON, '-H', 'fd://']!r} + sys.argv[1:])"
        )
        environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "LISTEN_FDS": "1",
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
        }
        roots = [f"--{name}={engine.root / name}" for name in ("data-root", "exec-root", "pidfile")]
        with engine.log.open("wb") as log:
            engine.process = subprocess.Popen(
                [
                    *engine.namespace.prefix(),
                    sys.executable,
                    "-c",
                    script,
                    *roots,
                    f"--config-file={engine.root}/daemon.json",
                ],
                pass_fds=[listener.fileno()],
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
            assert engine.api("GET", "/_ping") == (200, "OK")
            assert engine.stop() == 0
        finally:
            if engine.process is not None:
                engine.process.kill()
                engine.process.wait(10)
            engine.namespace.close()
            subprocess.run(["rm", "-rf", str(engine.root)], check=True)


@pytest.mark.row("ENG-15")
def test_sigterm_stops_containers_in_time_and_sigusr1_dumps_stacks(open_engine: Engine) -> None:
    open_engine.docker(
        "run", "-d", "--name", "polite", "busybox", "sh", "-c", "trap 'exit 4' TERM; while :; do usleep 50000; done"
    )
    open_engine.docker("run", "-d", "--name", "deaf", "busybox", "sleep", "100")
    assert open_engine.process is not None
    open_engine.process.send_signal(signal.SIGUSR1)
    until(lambda: "goroutine" in open_engine.log_text() or "stack" in open_engine.log_text().lower())
    assert open_engine.stop() == 0
    open_engine.start()
    states = open_engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "polite", "deaf").stdout
    assert states == "exited 4\nexited 137\n"
    open_engine.docker("rm", "polite", "deaf")


@pytest.mark.words_of_docker_28
@pytest.mark.row("ENG-25")
def test_version_has_a_client_and_a_server_block(cli: CLI) -> None:
    text = cli("version").stdout
    client, server = re.split(r"\n\n?Server:.*\n", text)
    for label in ("Version", "API version", "Go version", "Git commit", "Built", "OS/Arch", "Context"):
        assert re.search(rf"^ {label}: +\S", client, re.MULTILINE), label
    assert re.search(r"^  API version: +1\.\d+ \(minimum version 1\.24\)$", server, re.MULTILINE)
    assert re.search(r"^  Go version: +python3\.", server, re.MULTILINE)
    assert "Experimental:     false" in server
    assert re.search(r"^ boxship-runtime:\n  Version: ", server, re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("version", "-f", "{{.Server.Version}}").stdout)
    assert json.loads(cli("version", "--format", "json").stdout)["Server"]["MinAPIVersion"] == "1.24"


@pytest.mark.words_of_docker_28
@pytest.mark.row("ENG-25", "CLI-06")
def test_without_an_engine_the_client_block_remains(cli: CLI) -> None:
    result = cli("-H", "unix:///nosuch.sock", "version", check=False)
    assert result.returncode == 1
    assert result.stdout.startswith("Client:\n Version: ")
    assert "Server" not in result.stdout
    message = "Cannot connect to the Docker daemon at unix:///nosuch.sock. Is the docker daemon running?\n"
    assert result.stderr == message
    run = cli("-H", "unix:///nosuch.sock", "run", "busybox", check=False)
    assert (run.returncode, message in run.stderr) == (125, True)


@pytest.mark.row("ENG-26")
def test_info_has_the_lines_people_look_for(cli: CLI, engine: Engine) -> None:
    cli("create", "busybox")
    cli("run", "-d", "--name", "one", "busybox", "sleep", "100")
    cli("run", "-d", "--name", "two", "busybox", "sleep", "100")
    cli("pause", "two")
    text = cli("info").stdout
    lines = [
        *(" Containers: 3", "  Running: 1", "  Paused: 1", "  Stopped: 1", " Images: 1", r" Server Version: \d.*"),
        *(
            " Storage Driver: overlay2",
            r"  Backing Filesystem: \w+",
            "  Supports d_type: true",
            "  Native Overlay Diff: true",
        ),
        *(" Logging Driver: json-file", " Cgroup Driver: cgroupfs", r" Cgroup Version: [12]", " Plugins:"),
        *(
            "  Volume: local",
            "  Network: bridge host (ipvlan )?macvlan null",
            "  Log: json-file none",
            " Swarm: inactive",
        ),
        *(" Runtimes: boxship", " Default Runtime: boxship", " Init Binary: docker-init", r" runc version: \S.*"),
        *(
            " Security Options:",
            "  seccomp",
            "   Profile: builtin",
            r" Kernel Version: \S+",
            r" Operating System: \S.*",
        ),
        *(
            " OSType: linux",
            r" Architecture: \S+",
            rf" CPUs: {os.cpu_count()}",
            r" Total Memory: [\d.]+[GM]iB",
            r" Name: \S+",
        ),
        *(r" ID: ([A-Z2-7]{4}:){11}[A-Z2-7]{4}", f" Docker Root Dir: {engine.data_root}", " Debug Mode: false"),
        *(" Experimental: false", " Insecure Registries:", "  127.0.0.0/8", " Live Restore Enabled: false"),
    ]
    for line in lines:
        assert re.search(f"^{line}$", text, re.MULTILINE), line
    cli("unpause", "two")
