"""``-H ssh://``: both command lines reach an engine through a real OpenSSH server and ``system dial-stdio``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from harness.engine import Engine
from harness.ssh import CLI, SshServer
from harness.waiting import until

pytestmark = pytest.mark.system
Client = Callable[..., subprocess.CompletedProcess[str]]
BOXSHIP = (sys.executable, "-c", CLI)


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[SshServer]:
    try:
        server = SshServer(engine.namespace, engine)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    yield server
    server.close()


def client(engine: Engine, server: SshServer, program: tuple[str, ...]) -> Client:
    """Run a command line as a user who has only ssh."""

    def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*engine.namespace.prefix(), *program, *args],
            env=server.environment(engine.client_environment()),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture(params=["docker", "boxship"])
def remote(request: pytest.FixtureRequest, engine: Engine, server: SshServer) -> Client:
    return client(engine, server, ("docker",) if request.param == "docker" else BOXSHIP)


@pytest.mark.row("CLI-03")
def test_a_container_runs_over_ssh_with_its_input_output_and_exit_code(remote: Client, server: SshServer) -> None:
    result = remote(
        "-H", server.url, "run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo err >&2; exit 3", input="in\n"
    )
    assert (result.stdout, result.stderr, result.returncode) == ("in\n", "err\n", 3)


@pytest.mark.row("CLI-03")
def test_a_path_in_the_address_names_the_engines_socket_over_there(
    remote: Client, server: SshServer, engine: Engine
) -> None:
    assert remote("-H", f"{server.url}{engine.socket}", "version", "--format", "{{.Server.Os}}").stdout == "linux\n"
    result = remote("-H", f"{server.url}/no/such.sock", "ps")
    assert result.returncode == 1
    assert "unix:///no/such.sock" in result.stderr


@pytest.mark.row("CLI-05")
def test_a_context_leads_over_ssh(remote: Client, server: SshServer) -> None:
    try:
        assert remote("context", "create", "far", "--docker", f"host={server.url}").returncode == 0
        assert remote("--context", "far", "images", "--format", "{{.Repository}}").stdout == "busybox\n"
    finally:
        remote("context", "rm", "-f", "far")


@pytest.mark.row("CLI-03")
def test_a_host_key_that_nobody_knows_is_refused_by_name(engine: Engine, server: SshServer) -> None:
    known = (server.root / "known_hosts").read_text()
    server.forget_host()
    try:
        result = client(engine, server, BOXSHIP)("-H", server.url, "ps")
    finally:
        (server.root / "known_hosts").write_text(known)
    assert result.returncode == 1
    assert result.stderr.startswith('error during connect: Head "http://docker.example.com/_ping": command [ssh -o ')
    assert "Host key verification failed." in result.stderr


@pytest.mark.row("CLI-03")
def test_a_host_without_boxship_and_a_client_without_ssh_are_told(engine: Engine, server: SshServer) -> None:
    bare = SshServer(engine.namespace, engine, port=2223, programs=False)
    try:
        result = client(engine, bare, BOXSHIP)("-H", bare.url, "ps")
    finally:
        bare.close()
    assert result.returncode == 1
    assert "has exited with exit status 127, make sure the URL is valid, and Boxship is installed" in result.stderr
    environment = {**server.environment(engine.client_environment()), "PATH": "/nonexistent"}
    result = subprocess.run(
        [*BOXSHIP, "-H", server.url, "ps"], env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, 'exec: "ssh": executable file not found in $PATH' in result.stderr) == (1, True)


@pytest.mark.row("CLI-03")
def test_a_client_that_is_killed_leaves_no_process_on_either_side(engine: Engine, server: SshServer) -> None:
    watcher = subprocess.Popen(
        [*engine.namespace.prefix(), *BOXSHIP, "-H", server.url, "events"],
        env=server.environment(engine.client_environment()),
        stdout=subprocess.DEVNULL,
    )
    try:
        until(server.far_processes)
    finally:
        watcher.kill()
        watcher.wait()
    until(lambda: not server.far_processes())
