import pytest

from boxship.linux.cgroup import Layout, open_cgroup, parse_mountinfo

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_a_hybrid_host_uses_version_1_and_knows_its_unified_mount() -> None:
    layout = parse_mountinfo(HYBRID)
    assert layout.version == 1
    assert layout.controllers == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }
    assert layout.unified == "/sys/fs/cgroup/unified"


@pytest.mark.row("RES-19")
def test_a_host_with_one_hierarchy_uses_version_2() -> None:
    layout = parse_mountinfo("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
    assert layout.version == 2
    assert open_cgroup("/boxship/x", layout).paths()[""] == "/sys/fs/cgroup/boxship/x"


def test_a_named_hierarchy_without_controllers_does_not_make_version_1() -> None:
    text = "1 1 0:1 / /c/systemd rw - cgroup cgroup rw,name=systemd\n2 1 0:2 / /c/unified rw - cgroup2 c rw\n"
    assert parse_mountinfo(text).version == 2


def test_a_host_without_cgroups_has_version_0_and_opens_nothing() -> None:
    layout = parse_mountinfo("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
    assert layout.version == 0
    with pytest.raises(OSError, match="no cgroup hierarchy is mounted"):
        open_cgroup("/x", layout)


def test_blanks_in_a_mount_point_are_unescaped() -> None:
    layout = parse_mountinfo("1 0 0:1 / /my\\040cgroups rw - cgroup2 cgroup2 rw\n")
    assert layout.unified == "/my cgroups"


def test_controllers_mounted_together_share_a_directory() -> None:
    paths = open_cgroup("/boxship/x", parse_mountinfo(HYBRID)).paths()
    assert paths["cpu"] == paths["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct/boxship/x"


@pytest.mark.parametrize("path", ["", "/", "/../x", "/a/../../b", "/a\0b", "/."])
def test_a_path_that_is_empty_or_climbs_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="invalid cgroup path"):
        open_cgroup(path, Layout({}, "/sys/fs/cgroup"))
