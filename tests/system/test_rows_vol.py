"""Rows VOL of the feature table with both command lines: volumes and mounts as a person uses them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine import Engine

pytestmark = pytest.mark.system
CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    yield
    ids = engine.docker("ps", "-aq").stdout.split()
    if ids:
        engine.docker("rm", "-f", "-v", *ids)
    engine.docker("volume", "prune", "-af")


def sh(cli: CLI, *words: str, check: bool = True) -> str:
    """Run a shell in a container: the last word is its script, those before it are flags; return its output."""
    done = cli("run", "--rm", *words[:-1], "busybox", "sh", "-c", words[-1], check=check)
    return done.stdout if check else done.stdout + done.stderr


@pytest.mark.row("VOL-01")
def test_create_prints_the_name_or_makes_one(cli: CLI, engine: Engine) -> None:
    assert cli("volume", "create", "--label", "team=a", "--driver", "local", "named").stdout == "named\n"
    assert (engine.data_root / "volumes/named/_data").is_dir()
    anonymous = cli("volume", "create").stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", anonymous)
    bad = cli("volume", "create", "-d", "nosuch", "other", check=False)
    assert 'error looking up volume plugin nosuch: plugin "nosuch" not found' in bad.stderr


@pytest.mark.row("VOL-02")
def test_ls_inspect_and_rm_say_what_docker_says(cli: CLI, engine: Engine) -> None:
    for name in ("one", "two"):
        cli("volume", "create", "--label", f"n={name}", name)
    header, *rows = cli("volume", "ls").stdout.splitlines()
    assert header.split() == ["DRIVER", "VOLUME", "NAME"]
    assert [row.split() for row in rows] == [["local", "one"], ["local", "two"]]
    assert cli("volume", "ls", "-q", "-f", "label=n=two").stdout == "two\n"
    (document,) = json.loads(cli("volume", "inspect", "one").stdout)
    assert document.pop("CreatedAt").startswith("20")
    assert document == {
        "Driver": "local",
        "Labels": {"n": "one"},
        "Mountpoint": str(engine.data_root / "volumes/one/_data"),
        "Name": "one",
        "Options": None,
        "Scope": "local",
    }
    id = cli("create", "-v", "one:/data", "busybox").stdout.strip()
    used = cli("volume", "rm", "one", "two", check=False)
    assert (used.returncode, used.stdout) == (1, "two\n")
    assert f"remove one: volume is in use - [{id}]" in used.stderr
    assert "get two: no such volume" in cli("volume", "rm", "two", check=False).stderr
    assert cli("volume", "rm", "-f", "two").returncode == 0


@pytest.mark.row("VOL-03", "VOL-09", "VOL-13")
def test_a_volume_is_made_at_first_use_and_outlives_its_containers(cli: CLI, engine: Engine) -> None:
    sh(cli, "-v", "new:/p", "echo 1 > /p/file")
    sh(cli, "--mount", "source=new,target=/q", "echo 2 >> /q/file")
    assert (engine.data_root / "volumes/new/_data/file").read_text() == "1\n2\n"


@pytest.mark.row("VOL-04")
def test_short_mounts_take_modes_and_single_files(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("conf\n")
    assert sh(
        cli, "-v", f"{tmp_path}/conf:/etc/my.conf:ro", "cat /etc/my.conf; echo > /etc/my.conf || echo denied"
    ) == ("conf\ndenied\n")
    for mode in ("z", "Z", "rw", "ro,z", "nocopy", "cached"):
        sh(cli, "-v", f"vol:/p:{mode}", "true")
    bad = cli("run", "--rm", "-v", "vol:/p:bogus", "busybox", "true", check=False)
    assert (bad.returncode, "invalid mode: bogus" in bad.stderr) == (125, True)


@pytest.mark.row("VOL-05")
def test_long_mounts_take_their_keys_in_any_order(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("here")
    assert (
        sh(cli, "--mount", f"dst=/a,readonly,src={tmp_path},type=bind", "cat /a/f; touch /a/g || echo no") == "hereno\n"
    )
    assert sh(cli, "--mount", "destination=/a,source=vol", "touch /a/x; ls /a") == "x\n"
    sizes = sh(
        cli, "--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700", "df -k /t | tail -1; stat -c %a /t"
    )
    assert (sizes.split()[1], sizes.split()[-1]) == ("1024", "700")
    assert sh(cli, "--mount", "type=tmpfs,target=/t,readonly", "touch /t/x || echo no") == "no\n"


@pytest.mark.row("VOL-06", "VOL-07")
def test_only_v_makes_a_missing_directory(cli: CLI, tmp_path: Path) -> None:
    sh(cli, "-v", f"{tmp_path}/made:/not/there/before", "touch /not/there/before/x")
    assert (tmp_path / "made/x").exists()
    missing = cli("run", "--rm", "--mount", f"type=bind,source={tmp_path}/no,target=/x", "busybox", check=False)
    assert missing.returncode == 125
    assert f"bind source path does not exist: {tmp_path}/no" in missing.stderr
    tilde = cli("run", "--rm", "--mount", "type=bind,source=~/data,target=/x", "busybox", check=False)
    assert tilde.returncode != 0


@pytest.mark.row("VOL-08")
def test_tmpfs_is_gone_after_stop(cli: CLI) -> None:
    cli("run", "-d", "--name", "tmp", "--tmpfs", "/tmp:size=2m,mode=1770", "busybox", "sleep", "999")
    cli("exec", "tmp", "sh", "-c", "touch /tmp/x; stat -c %a /tmp; df -k /tmp | tail -1")
    cli("restart", "-t", "0", "tmp")
    assert cli("exec", "tmp", "ls", "/tmp").stdout == ""


@pytest.mark.row("VOL-10")
def test_containers_share_a_volume_and_take_those_of_others(cli: CLI) -> None:
    cli("run", "-d", "--name", "first", "-v", "shared:/data", "-v", "/anonymous", "busybox", "sleep", "999")
    assert sh(cli, "--volumes-from", "first", "echo live > /data/f; echo anon > /anonymous/g; ls -d /data") == "/data\n"
    assert cli("exec", "first", "cat", "/data/f", "/anonymous/g").stdout == "live\nanon\n"
    assert sh(cli, "--volumes-from", "first:ro", "touch /data/x || echo no") == "no\n"


@pytest.mark.row("VOL-11")
def test_an_empty_volume_gets_what_the_image_has(cli: CLI) -> None:
    assert "sh" in sh(cli, "-v", "bin:/bin:ro", "ls /bin").split()
    empty = cli("run", "--rm", "-v", "none:/usr:nocopy", "busybox", "ls", "/usr")
    assert empty.stdout == ""
    sh(cli, "-v", "kept:/p", "echo mine > /p/sh")
    assert sh(cli, "-v", "kept:/etc", "ls /etc | grep -v -e hosts -e hostname -e resolv.conf") == "sh\n"


@pytest.mark.row("VOL-12")
def test_prune_takes_anonymous_volumes_and_with_a_all(cli: CLI) -> None:
    cli("volume", "create", "named")
    anonymous = cli("volume", "create").stdout.strip()
    cli("create", "--name", "user", "-v", "used:/p", "busybox")
    pruned = cli("volume", "prune", "-f").stdout
    assert anonymous in pruned
    assert sorted(cli("volume", "ls", "-q").stdout.split()) == ["named", "used"]
    assert "named" in cli("volume", "prune", "-a", "-f").stdout
    assert cli("volume", "ls", "-q").stdout == "used\n"


@pytest.mark.row("VOL-12")
@pytest.mark.parametrize(("version", "kept"), [("1.41", []), ("1.42", ["named"])])
def test_old_clients_prune_named_volumes_too(engine: Engine, version: str, kept: list[str]) -> None:
    engine.docker("volume", "create", "named")
    assert engine.api("POST", f"/v{version}/volumes/prune")[0] == 200
    assert engine.docker("volume", "ls", "-q").stdout.split() == kept


@pytest.mark.row("VOL-13")
def test_host_and_container_see_each_others_changes_at_once(cli: CLI, tmp_path: Path) -> None:
    cli("run", "-d", "--name", "web", "-v", f"{tmp_path}:/src", "busybox", "sleep", "999")
    (tmp_path / "app.py").write_text("1")
    assert cli("exec", "web", "cat", "/src/app.py").stdout == "1"
    cli("exec", "web", "sh", "-c", "echo 2 > /src/app.py")
    assert (tmp_path / "app.py").read_text() == "2\n"


@pytest.mark.row("VOL-15")
def test_a_volume_is_backed_up_and_restored_by_tar(cli: CLI, tmp_path: Path) -> None:
    cli("run", "--name", "store", "-v", "/dbdata", "busybox", "sh", "-c", "echo row > /dbdata/table")
    sh(cli, "--volumes-from", "store", "-v", f"{tmp_path}:/backup", "tar cf /backup/backup.tar -C / dbdata")
    cli("run", "--name", "store2", "-v", "/dbdata", "busybox", "true")
    sh(
        cli,
        "--volumes-from",
        "store2",
        "-v",
        f"{tmp_path}:/backup",
        "cd /dbdata && tar xf /backup/backup.tar --strip 1",
    )
    assert sh(cli, "--volumes-from", "store2", "cat /dbdata/table") == "row\n"


@pytest.mark.row("VOL-17")
def test_the_whole_host_can_be_mounted_to_look_at(cli: CLI) -> None:
    flags = ("-v", "/:/rootfs:ro", "-v", "/var/run:/var/run:rw", "-v", "/sys:/sys:ro")
    assert (
        sh(cli, *flags, "test -e /rootfs/proc/1 && ls -d /sys/kernel && touch /rootfs/x || echo no")
        == "/sys/kernel\nno\n"
    )


@pytest.mark.row("VOL-19")
def test_read_only_binds_are_so_all_the_way_down(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", tmp_path / "below"], check=True)
    try:
        write = "touch /p/below/x && echo written || echo no"
        bind = f"type=bind,source={tmp_path},target=/p,readonly"
        assert sh(cli, "-v", f"{tmp_path}:/p:ro", write) == "no\n"
        assert sh(cli, "--mount", bind, write) == "no\n"
        assert sh(cli, "--mount", f"{bind},bind-recursive=writable", write) == "written\n"
        assert sh(cli, "--mount", f"{bind},bind-recursive=readonly,bind-propagation=rprivate", write) == "no\n"
        assert sh(cli, "--mount", f"type=bind,source={tmp_path},target=/p,bind-recursive=disabled", "ls /p/below") == ""
    finally:
        subprocess.run(["umount", tmp_path / "below"], check=True)


@pytest.mark.row("VOL-19")
def test_a_part_of_a_volume_is_mounted_by_subpath(cli: CLI) -> None:
    sh(cli, "-v", "vol:/p", "mkdir -p /p/a/b && echo deep > /p/a/b/f && ln -s / /p/out")
    assert sh(cli, "--mount", "source=vol,target=/q,volume-subpath=a/b", "cat /q/f") == "deep\n"
    for subpath in ("none", "out/etc"):
        done = cli(
            "run", "--rm", "--mount", f"source=vol,target=/q,volume-subpath={subpath}", "busybox", "ls", check=False
        )
        assert done.returncode != 0


@pytest.mark.row("VOL-19")
@pytest.mark.parametrize(("propagation", "seen"), [("rslave", True), ("rprivate", False)])
def test_mounts_of_the_host_reach_a_slave_only(cli: CLI, tmp_path: Path, propagation: str, seen: bool) -> None:
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "--bind", "--make-shared", tmp_path, tmp_path], check=True)
    try:
        cli("run", "-d", "--name", "slave", "-v", f"{tmp_path}:/p:{propagation}", "busybox", "sleep", "999")
        subprocess.run(["mount", "-t", "tmpfs", "later", tmp_path / "sub"], check=True)
        (tmp_path / "sub/file").touch()
        assert cli("exec", "slave", "ls", "/p/sub").stdout == ("file\n" if seen else "")
    finally:
        subprocess.run(["umount", tmp_path / "sub"], check=False)
        subprocess.run(["umount", tmp_path], check=True)
