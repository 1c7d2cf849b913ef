import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.linux import mountinfo

LINE = r"36 35 98:0 /mnt1 /mnt\040two rw,noatime shared:3 master:1 - ext3 /dev/ro\134ot rw,errors=continue"


def test_every_field_of_a_line_is_read() -> None:
    [mount] = mountinfo.parse(LINE + "\n")
    assert (mount.id, mount.parent_id, mount.major, mount.minor) == (36, 35, 98, 0)
    assert (mount.root, mount.mount_point, mount.options) == ("/mnt1", "/mnt two", "rw,noatime")
    assert mount.propagation == ("shared:3", "master:1")
    assert (mount.fstype, mount.source, mount.super_options) == ("ext3", "/dev/ro\\ot", "rw,errors=continue")


def test_a_mount_without_propagation_is_private() -> None:
    [mount] = mountinfo.parse("1 0 0:1 / / rw - tmpfs none rw")
    assert mount.propagation == ()


@pytest.mark.parametrize("line", ["x", "1 0 0:1 / / rw", "1 0 0:1 / / rw - tmpfs", "1 0 zero / / rw - tmpfs none rw"])
def test_a_line_that_is_not_of_mountinfo_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        mountinfo.parse(line)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_name_survives_the_kernels_escapes(name: str) -> None:
    escaped = name
    for plain in ("\\", " ", "\t", "\n"):
        escaped = escaped.replace(plain, f"\\{ord(plain):03o}")
    [mount] = mountinfo.parse(f"1 0 0:1 / /{escaped} rw - tmpfs none rw")
    assert mount.mount_point == f"/{name}"


def test_the_own_table_is_read() -> None:
    assert any(mount.mount_point == "/" for mount in mountinfo.read())
