"""Mounts: options, masks, the root, and images that try to send them elsewhere (faults R3 to R7)."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.linux import mount, mountinfo

pytestmark = pytest.mark.system

Shell = Callable[..., Any]


def bind(source: Path, destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "source": str(source), "type": "bind", "options": ["rbind", *options]}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("text\n")
    return volume


@pytest.fixture
def inner(volume: Path) -> Iterator[Path]:
    """A mount below the volume."""
    inner = volume / "inner"
    inner.mkdir()
    mount.mount("tmpfs", str(inner), "tmpfs")
    yield inner
    mount.umount2(str(inner), mount.MNT_DETACH)


def options_of(lines: list[str], point: str) -> str:
    [found] = [entry for entry in mountinfo.parse("\n".join(lines)) if entry.mount_point == point]
    return found.options


def test_a_directory_is_bound_writable(shell: Shell, spec: dict[str, Any], volume: Path) -> None:
    spec["mounts"].append(bind(volume, "/made/data"))
    assert shell("cat /made/data/file; echo more > /made/data/new").lines == ["text"]
    assert (volume / "new").read_text() == "more\n"


def test_a_file_is_bound_onto_a_new_file(shell: Shell, spec: dict[str, Any], volume: Path) -> None:
    spec["mounts"].append(bind(volume / "file", "/etc/new/config", "ro"))
    result = shell("cat /etc/new/config; echo x > /etc/new/config")
    assert result.lines[0] == "text"
    assert "Read-only file system" in result.lines[1]


def test_ro_is_for_the_top_and_rro_for_all_below(shell: Shell, spec: dict[str, Any], volume: Path, inner: Path) -> None:
    spec["mounts"] += [bind(volume, "/top", "ro"), bind(volume, "/all", "rro")]
    lines = shell("cat /proc/self/mountinfo").lines
    assert options_of(lines, "/top").startswith("ro")
    assert options_of(lines, "/top/inner").startswith("rw")
    assert options_of(lines, "/all").startswith("ro")
    assert options_of(lines, "/all/inner").startswith("ro")


def test_flags_of_a_bind_are_set(shell: Shell, spec: dict[str, Any], volume: Path) -> None:
    spec["mounts"].append(bind(volume, "/data", "nosuid", "nodev", "noexec", "noatime", "rprivate"))
    lines = shell("cat /proc/self/mountinfo").lines
    assert options_of(lines, "/data") == "rw,nosuid,nodev,noexec,noatime"


def test_shared_propagation_takes_mounts_to_the_host_and_private_does_not(
    shell: Shell, spec: dict[str, Any], volume: Path
) -> None:
    spec["mounts"] += [bind(volume, "/slave", "rslave"), bind(volume, "/private", "rprivate")]
    entries = mountinfo.parse(shell("cat /proc/self/mountinfo").output)
    by_point = {entry.mount_point: entry.propagation for entry in entries}
    assert by_point["/private"] == ()
    assert not any(word.startswith("shared") for word in by_point["/slave"])


def test_a_tmpfs_takes_over_the_mode_of_what_it_covers(shell: Shell, spec: dict[str, Any], rootfs: Path) -> None:
    (rootfs / "cache").mkdir()
    (rootfs / "cache").chmod(0o1770)
    spec["mounts"].append({"destination": "/cache", "source": "tmpfs", "type": "tmpfs", "options": ["size=64k"]})
    assert shell("stat -c %a /cache; dd if=/dev/zero of=/cache/x bs=1k count=128 2>&1 | head -1").lines == [
        "1770",
        "dd: error writing '/cache/x': No space left on device",
    ]


def test_a_tmpfs_can_start_with_what_it_covers(shell: Shell, spec: dict[str, Any], rootfs: Path) -> None:
    (rootfs / "cache").mkdir()
    (rootfs / "cache/kept").write_text("text\n")
    spec["mounts"].append({"destination": "/cache", "source": "tmpfs", "type": "tmpfs", "options": ["tmpcopyup"]})
    assert shell("cat /cache/kept; rm /cache/kept").lines == ["text"]
    assert (rootfs / "cache/kept").exists()


def test_a_read_only_root_cannot_be_written(shell: Shell, spec: dict[str, Any]) -> None:
    spec["root"]["readonly"] = True
    assert "Read-only file system" in shell("touch /x").output


@pytest.mark.row("ISO-15")
def test_the_old_root_is_out_of_reach(shell: Shell, rootfs: Path) -> None:
    result = shell("ls -id / /.. /../..; chroot / sh -c 'cd ../../../../..; ls -id .'; cat /proc/self/mountinfo")
    inode = str(rootfs.stat().st_ino)
    assert [line.split()[0] for line in result.lines[:4]] == [inode] * 4
    mounts = mountinfo.parse("\n".join(result.lines[4:]))
    ids = {entry.id for entry in mounts}
    assert sum(entry.parent_id not in ids for entry in mounts) == 1
    assert all(entry.root != "/" or entry.fstype != "ext4" for entry in mounts)


@pytest.mark.row("ISO-08")
def test_masked_files_are_empty_and_masked_directories_too(shell: Shell) -> None:
    result = shell("cat /proc/keys /proc/timer_list; ls /sys/firmware; touch /sys/firmware/x; echo x > /proc/keys")
    assert result.lines == ["touch: /sys/firmware/x: Read-only file system"]


@pytest.mark.row("ISO-08")
def test_read_only_paths_cannot_be_written(shell: Shell) -> None:
    assert "Read-only file system" in shell("echo 1 > /proc/sys/net/ipv4/ip_forward").output


def test_r3_a_null_device_from_the_image_masks_nothing_else(shell: Shell, spec: dict[str, Any], rootfs: Path) -> None:
    """/dev is the image's own, and its null a link to a file of procfs that would become writable."""
    spec["mounts"] = [entry for entry in spec["mounts"] if not entry["destination"].startswith("/dev")]
    (rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    result = shell("true")
    assert result.error is not None
    assert "/dev/null" in result.error


def test_r3_a_mask_cannot_change_the_hosts_null_device(shell: Shell) -> None:
    before = os.stat("/dev/null").st_mode
    shell("chmod 600 /proc/keys; chown 33 /proc/keys")
    assert os.stat("/dev/null").st_mode == before
    assert os.stat("/dev/null").st_uid == 0


@pytest.mark.parametrize("name", ["console", "pts", "ptmx"])
def test_r4_a_console_of_the_image_is_no_way_out(
    shell: Shell, spec: dict[str, Any], rootfs: Path, tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    spec["mounts"] = [entry for entry in spec["mounts"] if not entry["destination"].startswith("/dev")]
    (rootfs / "dev" / name).symlink_to("/proc/sys/kernel/core_pattern" if name != "pts" else "/proc")
    spec["process"]["terminal"] = True
    result = shell("ls -l /dev/console", terminal=True)
    assert result.error is not None
    assert victim.read_text() == "safe"


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_r5_a_kernel_filesystem_is_mounted_on_a_real_directory_only(shell: Shell, rootfs: Path, name: str) -> None:
    (rootfs / name).rmdir()
    (rootfs / name).symlink_to("tmp")
    result = shell("true")
    assert f'to rootfs at "/{name}"' in result.error


def test_r5_a_volume_cannot_cover_files_of_procfs(shell: Shell, spec: dict[str, Any], volume: Path) -> None:
    spec["mounts"].append(bind(volume, "/proc/sys"))
    assert shell("true").error.endswith('"/proc/sys" cannot be mounted because it is inside /proc')
    spec["mounts"][-1] = bind(volume / "file", "/proc/meminfo")
    assert shell("cat /proc/meminfo").lines == ["text"]


def test_r5_labels_are_not_written_to_a_fake_procfs(shell: Shell, spec: dict[str, Any], rootfs: Path) -> None:
    """Without a procfs mount, what lies at /proc is the image's; nothing of ours may read or write it."""
    spec["mounts"] = [entry for entry in spec["mounts"] if entry["destination"] != "/proc"]
    (rootfs / "proc/self/attr").mkdir(parents=True)
    (rootfs / "proc/self/oom_score_adj").write_text("")
    spec["process"]["oomScoreAdj"] = 500
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    shell("true")
    assert (rootfs / "proc/self/oom_score_adj").read_text() == ""


@pytest.mark.parametrize("target", ["{outside}", "../../outside", "/proc/1/root{outside}", "/proc/self/cwd"])
def test_r6_a_dev_link_makes_nothing_outside(shell: Shell, rootfs: Path, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (rootfs / "dev").rmdir()
    (rootfs / "dev").symlink_to(target.format(outside=outside))
    shell("true")
    assert list(outside.iterdir()) == []


def test_r7_a_racing_link_never_takes_a_mount_out_of_the_root(
    shell: Shell, spec: dict[str, Any], volume: Path, tmp_path: Path
) -> None:
    """A volume's other user swaps the mount's destination for a link to the host's root, over and over."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (volume / "a").mkdir()
    (volume / "b").symlink_to(f"/../../../../../..{outside}")
    stop = threading.Event()

    def swap() -> None:
        from boxship.linux._libc import libc

        rename = libc["renameat2"]
        a, b = os.fsencode(volume / "a"), os.fsencode(volume / "b")
        while not stop.is_set():
            rename(-100, a, -100, b, 2)  # RENAME_EXCHANGE

    swapper = threading.Thread(target=swap)
    swapper.start()
    spec["mounts"] += [bind(volume, "/shared"), bind(volume / "file", "/shared/a/x/file")]
    try:
        for _ in range(20):
            shell("true")
    finally:
        stop.set()
        swapper.join()
    assert list(outside.iterdir()) == []


def test_r10_the_cgroup_tree_is_read_only_and_starts_at_the_own_cgroup(shell: Shell) -> None:
    result = shell("for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x 2>/dev/null; done; cat /proc/self/cgroup")
    assert not list(Path("/sys/fs/cgroup").glob("*/x"))
    paths = [line.split(":", 2)[2] for line in result.lines]
    assert paths
    assert set(paths) == {"/"}


def test_without_pivot_root_the_root_is_moved(
    program: Path, rootfs: Path, spec: dict[str, Any], tmp_path: Path
) -> None:
    import json
    import subprocess

    spec["root"]["path"] = str(rootfs)
    spec["process"]["args"] = ["ls", "-id", "/", "/../.."]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    command = [program, "--root", tmp_path / "state", "run", "--no-pivot", "-b", tmp_path, f"np-{os.getpid()}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [str(rootfs.stat().st_ino)] * 2
