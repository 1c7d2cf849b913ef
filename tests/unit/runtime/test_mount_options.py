import pytest

from boxship.linux import mount
from boxship.runtime import mount_options


def test_the_last_of_two_contradicting_options_wins() -> None:
    parsed = mount_options.parse(["ro", "rw"])
    assert parsed.flags == 0
    assert parsed.cleared == mount.MS_RDONLY
    assert mount_options.parse(["rw", "ro"]).flags == mount.MS_RDONLY


def test_options_of_the_filesystem_are_kept_in_order() -> None:
    parsed = mount_options.parse(["nosuid", "mode=755", "", "size=64k"])
    assert parsed.data == "mode=755,size=64k"
    assert parsed.flags == mount.MS_NOSUID


@pytest.mark.parametrize(
    ("option", "flag"),
    [("rslave", mount.MS_SLAVE | mount.MS_REC), ("private", mount.MS_PRIVATE), ("runbindable", 0x24000)],
)
def test_propagation_is_kept_apart_from_flags(option: str, flag: int) -> None:
    parsed = mount_options.parse([option])
    assert parsed.propagation == [flag]
    assert parsed.flags == 0


def test_recursive_options_are_kept_apart_from_those_of_the_top() -> None:
    parsed = mount_options.parse(["rbind", "rro"])
    assert parsed.flags == mount.MS_BIND | mount.MS_REC
    assert parsed.recursive_flags == mount.MS_RDONLY


def test_an_access_time_mode_replaces_the_whole_field() -> None:
    assert mount_options.attributes(mount.MS_NOATIME, 0) == (mount.MOUNT_ATTR_NOATIME, mount.MOUNT_ATTR__ATIME)
    assert mount_options.attributes(mount.MS_RELATIME, 0) == (0, mount.MOUNT_ATTR__ATIME)


def test_flags_become_attributes() -> None:
    flags = mount.MS_RDONLY | mount.MS_NOSUID | mount.MS_BIND | mount.MS_REC
    assert mount_options.attributes(flags, mount.MS_NOEXEC) == (
        mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID,
        mount.MOUNT_ATTR_NOEXEC,
    )
