"""Labels of security modules for the next execve, on stand-ins for procfs and sysfs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.runtime import labels, mounts
from boxship.runtime.failure import RuntimeFailure

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    path = tmp_path / "proc"
    (path / "self" / "attr").mkdir(parents=True)
    (path / "self" / "attr" / "exec").touch()
    return path


@pytest.fixture
def proc_fd(proc: Path) -> Iterator[int]:
    fd = os.open(proc, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    path = tmp_path / "sys"
    (path / "kernel" / "security" / "apparmor").mkdir(parents=True)
    (path / "fs" / "selinux").mkdir(parents=True)
    return path


@pytest.mark.row("ISO-07")
def test_an_apparmor_profile_is_asked_for_in_its_own_file(proc: Path, proc_fd: int, sysfs: Path) -> None:
    own = proc / "self" / "attr" / "apparmor"
    own.mkdir()
    (own / "exec").touch()
    labels.prepare(proc_fd, "docker-default", "", str(sysfs))
    assert (own / "exec").read_text() == "exec docker-default"
    assert (proc / "self" / "attr" / "exec").read_text() == ""


def test_kernels_without_that_file_have_the_common_one(proc: Path, proc_fd: int, sysfs: Path) -> None:
    labels.prepare(proc_fd, "mine", "", str(sysfs))
    assert (proc / "self" / "attr" / "exec").read_text() == "exec mine"


@pytest.mark.row("ISO-07")
def test_a_selinux_label_is_written_as_it_is(proc: Path, proc_fd: int, sysfs: Path) -> None:
    labels.prepare(proc_fd, "unconfined", LABEL, str(sysfs))
    assert (proc / "self" / "attr" / "exec").read_text() == LABEL


@pytest.mark.row("ISO-07")
@pytest.mark.parametrize(
    ("apparmor", "selinux", "words"),
    [
        ("docker-default", "", "apparmor: config provided but apparmor not supported"),
        ("", LABEL, "selinux label is specified in config, but selinux is disabled or not supported"),
    ],
)
def test_a_label_without_its_module_is_an_error(
    proc_fd: int, tmp_path: Path, apparmor: str, selinux: str, words: str
) -> None:
    with pytest.raises(RuntimeFailure, match=words):
        labels.prepare(proc_fd, apparmor, selinux, str(tmp_path))


@pytest.mark.row("ISO-07")
@pytest.mark.parametrize("type", ["tmpfs", "devpts"])
def test_new_file_systems_get_the_mount_label(type: str) -> None:
    entry = {"destination": "/x", "type": type, "source": type, "options": ["nosuid"]}
    assert mounts.labelled(entry, LABEL)["options"] == ["nosuid", f'context="{LABEL}"']
    assert mounts.labelled(entry, "") == entry


@pytest.mark.parametrize(
    "entry",
    [
        {"destination": "/x", "type": "bind", "source": "/y", "options": ["rbind"]},
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
        {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "namespace": "/proc/1/ns/mnt"},
    ],
)
def test_what_is_there_already_keeps_its_labels(entry: dict[str, object]) -> None:
    assert mounts.labelled(entry, LABEL) is entry
