"""Options of the daemon that decide how containers are made, by what their containers see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine import SOURCE, Engine
from harness.images import import_busybox

pytestmark = pytest.mark.system

DAEMON = (sys.executable, "-c", "import sys; from boxship.daemon.main import main; sys.exit(main())")

# Everything but chmod, which answers with an errno of its own.
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose defaults are others than usual."""
    profile = tmp_path_factory.mktemp("seccomp") / "profile.json"
    profile.write_text(json.dumps(PROFILE))
    engine = Engine(
        options=[
            "--no-new-privileges",
            "--default-ipc-mode=shareable",
            f"--seccomp-profile={profile}",
            "--host-gateway-ip=192.0.2.7",
            "--metrics-addr=127.0.0.1:9323",
        ]
    )
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.mark.row("ENG-16")
def test_no_new_privileges_is_the_default_and_a_container_may_say_otherwise(strict: Engine) -> None:
    look = ("busybox", "grep", "NoNewPrivs", "/proc/self/status")
    assert strict.docker("run", "--rm", *look).stdout.split()[1] == "1"
    assert strict.docker("run", "--rm", "--security-opt", "no-new-privileges=false", *look).stdout.split()[1] == "0"
    strict.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    assert strict.docker("exec", "box", *look[1:]).stdout.split()[1] == "1"
    strict.docker("rm", "-f", "box")


def test_the_default_ipc_mode_lets_others_join(strict: Engine) -> None:
    strict.docker("run", "-d", "--name", "donor", "busybox", "sh", "-c", "echo shared > /dev/shm/word; sleep 1000")
    strict.docker("exec", "donor", "sh", "-c", "until [ -s /dev/shm/word ]; do :; done")
    joined = strict.docker("run", "--rm", "--ipc", "container:donor", "busybox", "cat", "/dev/shm/word")
    assert joined.stdout == "shared\n"
    assert strict.docker("inspect", "-f", "{{.HostConfig.IpcMode}}", "donor").stdout == "shareable\n"
    strict.docker("rm", "-f", "donor")


def test_the_seccomp_profile_of_a_file_is_everybodys(strict: Engine) -> None:
    change = ("busybox", "chmod", "600", "/etc/passwd")
    refused = strict.docker("run", "--rm", *change, check=False)
    assert refused.returncode == 1
    assert "not supported" in refused.stderr  # EOPNOTSUPP
    assert strict.docker("run", "--rm", "--security-opt", "seccomp=unconfined", *change).returncode == 0


def test_host_gateway_is_the_configured_address(strict: Engine) -> None:
    hosts = strict.docker("run", "--rm", "--add-host", "outside:host-gateway", "busybox", "cat", "/etc/hosts").stdout
    assert "192.0.2.7\toutside" in hosts


def test_an_option_that_nothing_follows_is_named_in_the_log(strict: Engine) -> None:
    assert "option metrics-addr has no effect yet" in strict.log_text()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--authorization-plugin=guard", 'plugin "guard" not found'),
        ("--storage-opt=overlay2.color=red", "overlay2: unknown option overlay2.color"),
        ("--seccomp-profile=/nonexistent", "opening seccomp profile (/nonexistent) failed"),
    ],
)
def test_what_cannot_be_had_keeps_the_daemon_from_starting(tmp_path: Path, option: str, words: str) -> None:
    (tmp_path / "daemon.json").write_text("{}")
    places = [f"--{name}={tmp_path / name}" for name in ("data-root", "exec-root", "pidfile")]
    result = subprocess.run(
        [
            "unshare",
            "-n",
            *DAEMON,
            f"--config-file={tmp_path}/daemon.json",
            option,
            "--plugin-wait=0",
            *places,
            "-H",
            f"unix://{tmp_path}/s",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert words in result.stderr
