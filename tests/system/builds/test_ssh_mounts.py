"""``RUN --mount=type=ssh`` with OpenSSH's own programs in the step: agents' sockets, keys in files, and what an agent is not asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.ssh import SshServer

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

PROGRAMS = ("/usr/bin/ssh", "/usr/bin/ssh-add")
SSH = "ssh -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@127.0.0.1"


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[SshServer]:
    try:
        server = SshServer(engine.namespace, engine, programs=False)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    yield server
    server.close()


@pytest.fixture(scope="module")
def openssh(engine: Engine, server: SshServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with this host's ssh and git."""
    root = tmp_path_factory.mktemp("openssh")
    git = shutil.which("git")
    for program in (*PROGRAMS, *([git] if git else [])):
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for path in [program, *(word for word in listed.split() if word.startswith("/"))]:
            place = root / os.path.realpath(path).lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
            if not (root / path.lstrip("/")).exists():
                (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / path.lstrip("/"))
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n")
    (root / "Dockerfile").write_text("FROM busybox\nCOPY . /\n")
    engine.boxship("build", "-q", "-t", "openssh", str(root))
    return "openssh"


@pytest.fixture
def agent(server: SshServer, tmp_path: Path) -> Iterator[str]:
    """The socket of an ssh-agent with the server's user's key."""
    path = str(tmp_path / "agent.sock")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()  # it listens
            environment = {**os.environ, "SSH_AUTH_SOCK": path}
            subprocess.run(["ssh-add", "-q", str(server.root / "user")], env=environment, check=True)
            yield path
        finally:
            process.kill()


def _build(engine: Engine, directory: Path, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    (directory / "context").mkdir(exist_ok=True)
    (directory / "context/Dockerfile").write_text(text)
    command = ("build", "--progress", "plain", "--no-cache", "--force-rm", "--network", "host", *flags)
    return engine.boxship(*command, str(directory / "context"), check=False)


@pytest.mark.row("BLD-10")
@pytest.mark.row("BLD-29")
def test_a_step_logs_in_with_an_agent(engine: Engine, openssh: str, agent: str, tmp_path: Path) -> None:
    text = f"FROM {openssh}\nRUN --mount=type=ssh {SSH} 'echo over $((6 * 7))'\nRUN test -z \"$SSH_AUTH_SOCK\"\n"
    done = _build(engine, tmp_path, text, "--ssh", f"default={agent}")
    assert done.returncode == 0, done.stderr
    assert " over 42\n" in done.stderr
    # Also another user, through a socket of its own that the mount gives to it.
    mount = "--mount=type=ssh,id=mine,uid=1000,gid=1000,required,target=/tmp/agent"
    text = f"FROM {openssh}\nUSER worker\nRUN {mount} stat -c '%a %u' $SSH_AUTH_SOCK && ssh-add -l && {SSH} id -u\n"
    done = _build(engine, tmp_path, text, "--ssh", f"mine={agent}")
    assert done.returncode == 0, done.stderr
    assert " 600 1000\n" in done.stderr and "ED25519" in done.stderr and " 0\n" in done.stderr


@pytest.mark.row("BLD-29")
def test_keys_in_files_need_no_agent(engine: Engine, openssh: str, server: SshServer, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(tmp_path / "rsa")], check=True)
    keys = f"default={tmp_path / 'rsa'},{server.root / 'user'}"
    text = f"FROM {openssh}\nRUN --mount=type=ssh ssh-add -l | wc -l && {SSH} echo in\n"
    done = _build(engine, tmp_path, text, "--ssh", keys)
    assert done.returncode == 0, done.stderr
    assert " 2\n" in done.stderr and " in\n" in done.stderr
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "words", "-f", str(tmp_path / "rsa")], check=True)
    locked = _build(engine, tmp_path, text, "--ssh", keys)
    assert locked.returncode == 1 and "it has a passphrase, and there is no terminal to ask for it" in locked.stderr


@pytest.mark.row("BLD-10")
def test_a_private_repository_is_cloned(
    engine: Engine, openssh: str, server: SshServer, agent: str, tmp_path: Path
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    repository.mkdir()
    (repository / "file").write_text("private\n")
    for words in (["init", "-q", "-b", "main"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    command = SSH.removesuffix(" root@127.0.0.1")
    text = (
        f"FROM {openssh}\nENV GIT_SSH_COMMAND='{command}'\n"
        f"RUN --mount=type=ssh git clone -q ssh://root@127.0.0.1:2222{repository} /clone && cat /clone/file\n"
    )
    subprocess.run(["git", "config", "--file", str(server.root / "gitconfig"), "safe.directory", "*"], check=True)
    done = _build(engine, tmp_path, text, "--ssh", f"default={agent}")
    assert done.returncode == 0, done.stderr
    assert " private\n" in done.stderr

    text = f"FROM {openssh}\nADD ssh://root@127.0.0.1:2222{repository} /added\nRUN cat /added/file\n"
    done = _build(engine, tmp_path, text, "--ssh", f"default={server.root}/user")
    assert done.returncode == 0, done.stderr
    assert " private\n" in done.stderr
    alone = _build(engine, tmp_path, text)
    assert alone.returncode == 1 and "Permission denied (" in alone.stderr


def test_an_agent_only_lists_and_signs(engine: Engine, openssh: str, agent: str, tmp_path: Path) -> None:
    text = f"FROM {openssh}\nRUN --mount=type=ssh ssh-add -D; ssh-add -x < /dev/null; ssh-add -l\n"
    done = _build(engine, tmp_path, text, "--ssh", f"default={agent}")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        ["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": agent}, capture_output=True, text=True, check=True
    )
    assert listed.stdout.count("ED25519") == 1


@pytest.mark.row("BLD-29")
def test_an_agent_that_there_is_not_is_named(engine: Engine, openssh: str, tmp_path: Path) -> None:
    without = _build(engine, tmp_path, f'FROM {openssh}\nRUN --mount=type=ssh test -z "$SSH_AUTH_SOCK"\n')
    assert without.returncode == 0, without.stderr
    required = _build(engine, tmp_path, f"FROM {openssh}\nRUN --mount=type=ssh,required true\n")
    assert required.returncode == 1 and "unset ssh forward key default" in required.stderr
    nothing = _build(engine, tmp_path, f"FROM {openssh}\nRUN --mount=type=ssh true\n", "--ssh", "default=/no/such/key")
    assert nothing.returncode == 1 and "failed to open /no/such/key: no such file or directory" in nothing.stderr
    assert engine.docker("ps", "-aq").stdout == ""
    assert not list((engine.data_root / "build/scratch").iterdir())
