"""What containers may do to the host when they are given a part of it, and what the host may do to them."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def start(engine: Engine, name: str, *args: str) -> int:
    """Run a container in the background and return the host's pid of its first process."""
    engine.docker("run", "-d", "--name", name, *args)
    pid: int = engine.api("GET", f"/containers/{name}/json")[1]["State"]["Pid"]
    return pid


@pytest.mark.row("ISO-13")
def test_an_installer_writes_to_the_host_where_it_was_given_a_place_and_nowhere_else(engine: Engine) -> None:
    target = engine.root / "target"
    target.mkdir()
    (engine.root / "installer.sh").write_text(
        "#!/bin/sh\ncp /bin/busybox /target/busybox && chmod 755 /target/busybox\n"
    )
    (engine.root / "installer.sh").chmod(0o755)
    engine.docker("create", "--name", "made", "busybox")
    engine.docker("cp", str(engine.root / "installer.sh"), "made:/installer.sh")
    engine.docker("commit", "--change", 'CMD ["/installer.sh"]', "made", "installer")
    failed = engine.docker("run", "--rm", "installer", check=False)
    assert failed.returncode != 0
    assert not any(target.iterdir())
    engine.docker("run", "--rm", "-v", f"{target}:/target", "installer")
    status = (target / "busybox").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o755)
    assert "BusyBox" in subprocess.run([target / "busybox"], capture_output=True, text=True, check=False).stdout
    refused = engine.docker("run", "--rm", "-v", f"{target}:/target:ro", "installer", check=False)
    assert "Read-only file system" in refused.stderr


@pytest.mark.row("ISO-14")
def test_the_documentation_says_what_root_in_a_container_is() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    assert "Root in a container is not safe" in text
    assert "--userns-remap" in text


@pytest.mark.row("ISO-16")
def test_routes_are_the_containers_own_and_need_a_capability(engine: Engine) -> None:
    route = "ip link set lo up; ip route add 10.99.0.0/16 dev lo && ip route"
    refused = engine.docker("run", "--rm", "busybox", "sh", "-c", route, check=False)
    assert "Operation not permitted" in refused.stderr
    shown = engine.docker("run", "--rm", "--cap-add=NET_ADMIN", "busybox", "sh", "-c", route).stdout
    assert "10.99.0.0/16 dev lo" in shown
    assert "10.99.0.0/16" not in engine.namespace.run("ip", "route").stdout


@pytest.mark.row("ISO-16")
def test_firewall_rules_are_the_containers_own_and_need_a_capability(engine: Engine) -> None:
    needs("nft")
    rules = "nft add table inet own_rules && nft list tables"
    words = ("-v", "/:/host:ro", "busybox", "chroot", "/host", "sh", "-c", rules)  # busybox has no such tool
    refused = engine.docker("run", "--rm", *words, check=False)
    assert "Operation not permitted" in refused.stderr
    assert "own_rules" in engine.docker("run", "--rm", "--cap-add=NET_ADMIN", *words).stdout
    assert "own_rules" not in engine.namespace.run("nft", "list", "tables").stdout


@pytest.mark.row("ISO-16")
def test_mounts_are_the_containers_own_and_need_a_capability(engine: Engine) -> None:
    script = "mount -t tmpfs -o size=1m own /tmp && echo text > /tmp/file && grep ' /tmp ' /proc/mounts"
    refused = engine.docker("run", "--rm", "busybox", "sh", "-c", script, check=False)
    assert "permission denied" in refused.stderr.lower()
    allowed = engine.docker("run", "--rm", "--cap-add=SYS_ADMIN", "busybox", "sh", "-c", script).stdout
    assert allowed.startswith("own /tmp tmpfs")
    assert "own /tmp tmpfs" not in Path("/proc/mounts").read_text()


@pytest.mark.row("ISO-17")
def test_the_hosts_strace_follows_a_process_of_a_container(engine: Engine) -> None:
    needs("strace")
    pid = start(engine, "traced", "busybox", "sh", "-c", "while cat /etc/hostname >/dev/null; do sleep 0.05; done")
    found = engine.root / "strace"
    tracer = subprocess.Popen(
        ["strace", "-f", "-e", "trace=openat,open", "-o", str(found), "-p", str(pid)], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: found.exists() and "/etc/hostname" in found.read_text())
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
    assert engine.api("GET", "/containers/traced/json")[1]["State"]["Status"] == "running"


@pytest.mark.row("ISO-17")
def test_the_hosts_lsof_and_gdb_see_a_process_of_a_container(engine: Engine) -> None:
    needs("lsof")
    needs("gdb")
    pid = start(engine, "seen", "busybox", "sh", "-c", "exec 7>/tmp/opened; exec sleep 1000")
    seen = lambda: subprocess.run(["lsof", "-p", str(pid)], capture_output=True, text=True, check=False).stdout  # noqa: E731
    until(lambda: "/tmp/opened" in seen())
    command = ["gdb", "-nx", "-batch", "-p", str(pid), "-ex", "info inferiors"]
    assert f"process {pid}" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert engine.api("GET", "/containers/seen/json")[1]["State"]["Status"] == "running"


@pytest.mark.row("ISO-17")
def test_killing_another_than_the_first_process_does_not_end_the_container(engine: Engine) -> None:
    pid = start(
        engine, "both", "busybox", "sh", "-c", "sleep 1234 & echo started; wait; echo survived; exec sleep 1000"
    )
    until(lambda: "started" in engine.docker("logs", "both").stdout)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    until(lambda: "survived" in engine.docker("logs", "both").stdout)
    assert engine.api("GET", "/containers/both/json")[1]["State"]["Pid"] == pid
    os.kill(pid, signal.SIGKILL)
    assert engine.docker("wait", "both").stdout == "137\n"


@pytest.mark.row("ISO-19")
def test_content_trust_that_was_asked_for_is_not_passed_over(engine: Engine) -> None:
    def trusting(*args: str) -> subprocess.CompletedProcess[str]:
        return engine.boxship(*args, check=False)

    for command in (("pull",), ("create",), ("run", "--rm")):
        result = trusting(*command, "--disable-content-trust=false", "busybox")
        assert result.returncode == (1 if command == ("pull",) else 125)
        assert "content trust is on, and signatures of busybox cannot be verified here" in result.stderr
    assert not engine.api("GET", "/containers/json?all=1")[1]
    assert trusting("run", "--rm", "--disable-content-trust", "busybox", "true").returncode == 0


@pytest.mark.row("ISO-19", "CLI-04")
def test_content_trust_comes_from_the_environment_too(engine: Engine) -> None:
    words = ("env", "DOCKER_CONTENT_TRUST=1", "python3")
    program = "import sys; from boxship.cli.main import main; sys.exit(main())"
    result = engine.docker("-c", program, "run", "--rm", "busybox", "true", check=False, program=words)
    assert result.returncode == 125
    assert "content trust is on" in result.stderr
    words = ("env", "DOCKER_CONTENT_TRUST=0", "python3")
    assert engine.docker("-c", program, "run", "--rm", "busybox", "echo", "ran", program=words).stdout == "ran\n"
