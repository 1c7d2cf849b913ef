"""Containers in user namespaces (``--userns-remap``): what they are inside, what they are for the host, what they may not."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.accounts import with_accounts
from harness.engine import Engine
from harness.images import import_busybox
from harness.waiting import until

pytestmark = pytest.mark.system

FIRST = 300_000
SIZE = 65_536

REWRITE = 'rewrite() { v=$(cat $1); echo "$v" > $1; }; rewrite'  # harmless on a host that allows it


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine whose containers' root is the host's uid 300000."""
    engine = Engine(options=["--userns-remap=default"])
    engine.isolate_cgroups()
    if not Path("/etc/subuid").exists() or not Path("/etc/subgid").exists():
        pytest.skip("the host has no /etc/subuid that could be covered")
    engine.wrapper = with_accounts(engine.root / "etc", first=FIRST)
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


def run(engine: Engine, *args: str) -> str:
    return engine.docker("run", "--rm", *args).stdout


def root_of(engine: Engine) -> Path:
    return engine.data_root / f"{FIRST}.{FIRST}"


@pytest.mark.row("ENG-24", "ISO-01")
def test_container_root_is_an_ordinary_user_of_the_host(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "who", "busybox", "sleep", "1000")
    pid = engine.api("GET", "/containers/who/json")[1]["State"]["Pid"]
    assert os.stat(f"/proc/{pid}").st_uid == FIRST
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    assert engine.docker("exec", "who", "cat", "/proc/self/uid_map").stdout.split() == ["0", str(FIRST), str(SIZE)]
    assert engine.docker("exec", "who", "id", "-u").stdout == "0\n"
    assert engine.docker("exec", "-u", "app", "who", "id", "-u").stdout == "1000\n"


@pytest.mark.row("ENG-24")
def test_info_and_data_root_tell_of_the_mapping_as_docker_does(engine: Engine) -> None:
    info = engine.api("GET", "/info")[1]
    assert "name=userns" in info["SecurityOptions"]
    assert info["DockerRootDir"] == str(root_of(engine))
    for path in (engine.data_root, root_of(engine)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, FIRST, 0o710)


@pytest.mark.row("ENG-24")
def test_files_of_images_and_containers_belong_to_mapped_ids_outside_and_to_root_inside(engine: Engine) -> None:
    assert run(engine, "busybox", "stat", "-c", "%u:%g", "/", "/bin/busybox", "/etc", "/dev/pts").split() == ["0:0"] * 4
    engine.docker("run", "--name", "files", "busybox", "sh", "-c", "touch /made; chown 5:6 /made")
    data = engine.api("GET", "/containers/files/json")[1]["GraphDriver"]["Data"]
    made = os.stat(f"{data['UpperDir']}/made")
    assert (made.st_uid, made.st_gid) == (FIRST + 5, FIRST + 6)
    assert os.stat(f"{data['LowerDir'].split(':')[-1]}/bin/busybox").st_uid == FIRST


@pytest.mark.row("ENG-24", "ISO-03")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            "--privileged",
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode",
        ),
        ("--network=host", "cannot share the host's network namespace when user namespaces are enabled"),
        ("--pid=host", "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_needs_the_hosts_namespaces_is_refused_unless_the_container_opts_out(
    engine: Engine, option: str, words: str
) -> None:
    refused = engine.docker("create", option, "busybox", "true", check=False)
    assert refused.returncode != 0
    assert f"Error response from daemon: {words}\n" in refused.stderr
    shown = run(engine, option, "--userns=host", "busybox", "cat", "/proc/self/uid_map")
    assert shown.split() == ["0", "0", "4294967295"]


@pytest.mark.row("ENG-24")
def test_outputs_files_tmpfs_and_settings_of_the_container_work_as_usual(engine: Engine) -> None:
    script = (
        "echo by-name > /dev/stdout; echo error > /dev/stderr; cat /etc/hostname; test -r /etc/resolv.conf; "
        "test -w /etc/hosts; echo > /t/file; echo > /dev/null; head -c 1 /dev/urandom | wc -c; ulimit -n; "
        "cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ping_group_range; ls /sys/fs/cgroup/memory | wc -l"
    )
    options = ["--tmpfs=/t:mode=700", "--hostname=inside", "--ulimit=nofile=64:128", "--oom-score-adj=300", "-m64m"]
    result = engine.docker("run", "--rm", *options, "busybox", "sh", "-ec", script)
    lines = result.stdout.split("\n")
    assert lines[:5] == ["by-name", "inside", "1", "64", "300"]
    assert lines[5].split() == ["0", str(SIZE - 1)]
    assert int(lines[6]) > 0
    assert result.stderr == "error\n"


@pytest.mark.row("ENG-24")
def test_a_user_by_name_writes_to_its_outputs_by_name(engine: Engine) -> None:
    assert run(engine, "--user", "app:extra", "busybox", "sh", "-c", "id -u; id -g > /dev/stdout") == "1000\n2000\n"
    engine.docker("run", "-d", "--name", "users", "busybox", "sleep", "1000")
    assert engine.docker("exec", "-u", "app", "users", "sh", "-c", "echo x > /dev/stdout").stdout == "x\n"


@pytest.mark.row("ENG-24")
def test_a_terminal_works(engine: Engine) -> None:
    engine.docker("run", "-dt", "--name", "terminal", "busybox", "sh", "-c", "tty; stat -c %u $(tty); ls /dev/console")
    assert engine.docker("wait", "terminal").stdout == "0\n"
    assert engine.docker("logs", "terminal").stdout.split() == ["/dev/pts/0", "0", "/dev/console"]


@pytest.mark.row("ENG-24")
def test_volumes_are_filled_with_and_written_as_mapped_ids(engine: Engine) -> None:
    made = engine.root / "made" / "below"
    run(engine, "-v", "filled:/etc", "-v", f"{made}:/bind", "busybox", "sh", "-c", "touch /etc/new /bind/new")
    data = root_of(engine) / "volumes" / "filled" / "_data"
    for path in (data, data / "passwd", data / "new", made, made.parent, made / "new"):
        assert path.stat().st_uid == FIRST, path


@pytest.mark.row("ENG-24")
def test_a_bind_mount_has_the_hosts_owners_and_needs_no_path_for_the_mapped_root(engine: Engine) -> None:
    private = engine.root / "private"
    private.mkdir(mode=0o700)
    (private / "file").write_text("text")
    (private / "file").chmod(0o600)
    shown = engine.docker(
        "run", "--rm", "-v", f"{private}:/bind", "busybox", "sh", "-c", "stat -c %u /bind; cat /bind/file", check=False
    )
    assert shown.stdout == "65534\n"  # nobody: what is not mapped
    assert "Permission denied" in shown.stderr


@pytest.mark.row("ENG-24", "RUN-30")
def test_copies_exports_and_commits_carry_the_containers_ids(engine: Engine) -> None:
    engine.docker(
        "run", "-d", "--name", "copied", "busybox", "sh", "-c", "touch /g; chown 5:6 /g; mv /g /f; exec sleep 1000"
    )
    until(lambda: "/f" in engine.docker("diff", "copied").stdout)
    for state in ("running", "stopped"):
        if state == "stopped":
            engine.docker("kill", "copied")
            engine.docker("wait", "copied")
        archive = subprocess.run(
            [*engine.namespace.prefix(), "docker", "cp", "copied:/f", "-"],
            env=engine.client_environment(), capture_output=True, check=True,
        ).stdout  # fmt: skip
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            assert (tar.next().uid, tar.getmember("f").gid) == (5, 6), state  # type: ignore[union-attr]
        source = engine.root / f"in-{state}"
        source.write_text("x")
        os.chown(source, 7, 8)
        engine.docker("cp", "-a", str(source), "copied:/")
    exported = engine.root / "exported.tar"
    engine.docker("export", "-o", str(exported), "copied")
    with tarfile.open(exported) as tar:
        assert (tar.getmember("f").uid, tar.getmember("etc/passwd").uid, tar.getmember("in-running").gid) == (5, 0, 8)
    engine.docker("commit", "copied", "committed")
    shown = run(engine, "committed", "stat", "-c", "%u:%g", "/f", "/in-running", "/in-stopped", "/etc")
    assert shown.split() == ["5:6", "7:8", "7:8", "0:0"]
    saved = engine.root / "saved.tar"
    engine.docker("save", "-o", str(saved), "committed")
    engine.docker("rmi", "-f", "committed")
    engine.docker("load", "-i", str(saved))
    assert run(engine, "committed", "stat", "-c", "%u:%g", "/f") == "5:6\n"


@pytest.mark.row("ENG-24")
def test_file_capabilities_of_an_image_count_for_container_root(engine: Engine) -> None:
    archive = engine.root / "capable.tar"
    value = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service+ep
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("tool")
        member.size, member.mode = 1, 0o755
        member.pax_headers["SCHILY.xattr.security.capability"] = value.decode("latin-1")
        tar.addfile(member, io.BytesIO(b"x"))
    engine.docker("import", str(archive), "capable")
    engine.docker("create", "--name", "capable", "capable", "/tool")
    lower = engine.api("GET", "/containers/capable/json")[1]["GraphDriver"]["Data"]["LowerDir"].split(":")[-1]
    kept = os.getxattr(f"{lower}/tool", "security.capability")
    assert kept == value[:3] + b"\x03" + value[4:] + FIRST.to_bytes(4, "little")
    exported = engine.root / "capable-out.tar"
    engine.docker("export", "-o", str(exported), "capable")
    with tarfile.open(exported) as tar:
        shown = tar.getmember("tool").pax_headers["SCHILY.xattr.security.capability"]
    assert shown.encode("utf-8", "surrogateescape") == value


@pytest.mark.row("ENG-24")
def test_an_image_with_ids_that_containers_do_not_have_is_refused(engine: Engine) -> None:
    archive = engine.root / "beyond.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("far")
        member.uid = SIZE
        tar.addfile(member)
    result = engine.docker("import", str(archive), "beyond", check=False)
    assert result.returncode != 0
    assert f"Container ID {SIZE} cannot be mapped to a host ID" in result.stderr


@pytest.mark.row("ENG-24", "ISO-03")
def test_containers_that_share_namespaces_share_the_user_namespace(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "first", "--ipc=shareable", "busybox", "sleep", "1000")
    own = engine.docker("exec", "first", "readlink", "/proc/self/ns/user").stdout
    assert own != run(engine, "busybox", "readlink", "/proc/self/ns/user")
    for option in ("--network=container:first", "--pid=container:first", "--ipc=container:first"):
        assert run(engine, option, "busybox", "readlink", "/proc/self/ns/user") == own, option
    engine.docker("run", "-d", "--name", "outside", "--userns=host", "busybox", "sleep", "1000")
    refused = engine.docker("run", "--rm", "--network=container:outside", "busybox", "true", check=False)
    assert "which is in the host's user namespace: use --userns=host" in refused.stderr


@pytest.mark.row("ENG-24")
def test_networks_health_checks_and_devices_work(engine: Engine) -> None:
    engine.docker(
        "run", "-d", "--name", "served", "-p", "127.0.0.1:18099:80", "--cap-add=NET_ADMIN", "--device=/dev/zero:/dev/other",
        "--health-cmd=true", "--health-interval=200ms", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc",
    )  # fmt: skip
    wget = [*engine.namespace.prefix(), "busybox", "wget", "-qO-", "http://127.0.0.1:18099/hostname"]
    until(lambda: subprocess.run(wget, capture_output=True, check=False).returncode == 0)
    engine.docker("exec", "served", "ip", "addr", "add", "10.9.9.9/32", "dev", "lo")  # its own network, its own rules
    assert engine.docker("exec", "served", "stat", "-c", "%t:%T", "/dev/other").stdout == "1:5\n"
    until(lambda: engine.api("GET", "/containers/served/json")[1]["State"]["Health"]["Status"] == "healthy")


@pytest.mark.row("ENG-24", "ISO-14")
@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("mount -t tmpfs none /mnt", []),
        ("mount -t ext4 /dev/vda /mnt", ["--cap-add=SYS_ADMIN"]),
        ("mknod /dev/sda b 8 0 && head -c 1 /dev/sda", ["--cap-add=SYS_ADMIN"]),
        (f"{REWRITE} /proc/sys/kernel/core_pattern", []),
        (f"mount -o remount,rw,bind /proc/sys && {REWRITE} /proc/sys/kernel/core_pattern", ["--cap-add=SYS_ADMIN"]),
        ("echo h > /proc/sysrq-trigger", ["--security-opt=systempaths=unconfined"]),
        (f"{REWRITE} /proc/sys/kernel/core_pattern", ["--security-opt=systempaths=unconfined"]),
        ("cat /proc/kcore", ["--security-opt=systempaths=unconfined"]),
        ("! date -s 2001-01-01 2>&1 | grep -q 'not permitted'", ["--cap-add=SYS_TIME"]),
        (f"{REWRITE} /sys/kernel/mm/ksm/run", ["--cap-add=SYS_ADMIN"]),
        ("cat /bind/secret", []),
        ("echo x > /bind/secret", ["--cap-add=ALL"]),
        ("chown 0:0 /bind/secret", ["--cap-add=ALL"]),
        ("kill -9 $OUTSIDE", []),
    ],
)
def test_container_root_is_not_the_hosts_root(engine: Engine, attack: str, options: list[str]) -> None:
    secret = engine.root / "secret"
    if not secret.exists():
        secret.mkdir(mode=0o755)
        (secret / "secret").write_text("of the host")
        (secret / "secret").chmod(0o600)
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        words = ["-e", f"OUTSIDE={victim.pid}", "-v", f"{secret}:/bind", "busybox", "sh", "-c", attack]
        result = engine.docker("run", "--rm", *options, *words, check=False)
        assert result.returncode != 0, result.stdout
        assert victim.poll() is None
        assert (secret / "secret").read_text() == "of the host"
        assert (secret / "secret").stat().st_uid == 0
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.row("ENG-24", "ISO-14")
def test_a_setuid_file_left_on_the_host_is_not_roots(engine: Engine) -> None:
    place = engine.root / "suid"
    place.mkdir()
    os.chown(place, FIRST, FIRST)
    run(engine, "-v", f"{place}:/out", "busybox", "sh", "-c", "cp /bin/busybox /out/shell && chmod 4755 /out/shell")
    status = (place / "shell").stat()
    assert status.st_mode & stat.S_ISUID
    assert (status.st_uid, status.st_gid) == (FIRST, FIRST)


@pytest.mark.row("ENG-24")
def test_a_crashed_daemon_finds_its_remapped_containers_again(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "survivor", "busybox", "sleep", "1000")
    namespace = engine.docker("exec", "survivor", "readlink", "/proc/self/ns/user").stdout
    engine.kill()
    engine.start()
    assert engine.docker("exec", "survivor", "readlink", "/proc/self/ns/user").stdout == namespace
    engine.docker("restart", "-t0", "survivor")
    assert engine.docker("exec", "survivor", "cat", "/proc/self/uid_map").stdout.split()[1] == str(FIRST)
    engine.docker("rm", "-f", "survivor")


@pytest.mark.row("ENG-24")
def test_user_namespaces_that_a_crash_left_are_let_go_at_the_next_start(engine: Engine) -> None:
    engine.kill()
    left = {path.name for path in (engine.exec_root / "netns").iterdir()}
    assert any(name.endswith(".user") for name in left)  # those that were ready for the next container
    (engine.exec_root / "netns" / "half.user").touch()  # and one whose making was cut off
    engine.start()
    engine.docker("run", "--rm", "busybox", "true")
    here = {path.name for path in (engine.exec_root / "netns").iterdir()}
    assert not here & {*left, "half.user"}


@pytest.mark.row("ENG-24")
def test_a_user_namespace_ends_with_its_container(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "brief", "busybox", "sleep", "1000")
    inspected = engine.api("GET", "/containers/brief/json")[1]
    key = inspected["NetworkSettings"]["SandboxKey"]
    assert os.path.exists(f"{key}.user")
    engine.docker("rm", "-f", "brief")
    until(lambda: not os.path.exists(f"{key}.user") and not os.path.exists(key))


@pytest.mark.row("ENG-24")
def test_a_mapping_that_the_host_does_not_have_stops_the_daemon(engine: Engine) -> None:
    broken = Engine(options=["--userns-remap=no-such-user"], namespace=engine.namespace)
    try:
        with pytest.raises(RuntimeError, match='Error during uid lookup for "no-such-user"'):
            broken.start()
        broken.process = None
        assert not broken.data_root.exists()
    finally:
        for path in (broken.root / "daemon.json", broken.log):
            path.unlink()
        broken.root.rmdir()


def test_daemon_json_takes_the_mapping(engine: Engine) -> None:
    configuration = engine.root / "remap.json"
    configuration.write_text(json.dumps({"userns-remap": "dockremap:dockremap"}))
    from boxship.daemon import config, flags

    assert config.load(flags.parse([f"--config-file={configuration}"])).userns_remap == "dockremap:dockremap"
