"""Attributes of processes: namespaces, capabilities, limits, pidfds, terminals."""

import os
import signal

import pytest

from boxship.linux import capabilities, namespaces, pidfd, rlimits, tty


def test_a_process_shares_all_namespaces_with_itself() -> None:
    assert namespaces.differing(os.getpid()) == 0


def test_a_process_that_is_gone_has_no_namespaces() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    with pytest.raises(FileNotFoundError):
        namespaces.differing(pid)


def test_joining_the_own_user_namespace_is_refused_with_the_kernels_errno() -> None:
    fd = os.open("/proc/self/ns/user", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="setns"):
            namespaces.setns(fd, namespaces.CLONE_NEWUSER)
    finally:
        os.close(fd)


def test_capability_names_and_masks_are_inverse() -> None:
    assert capabilities.names_of(capabilities.mask_of(["CAP_KILL", "CAP_CHOWN"])) == ["CAP_CHOWN", "CAP_KILL"]


def test_capabilities_nobody_knows_are_left_out() -> None:
    assert capabilities.mask_of(["CAP_FLY", "CAP_CHOWN"]) == 1


def test_capget_agrees_with_proc() -> None:
    with open("/proc/self/status") as file:
        status = dict(line.rstrip().split(":\t") for line in file if line.startswith("Cap"))
    sets = capabilities.capget()
    assert sets.effective == int(status["CapEff"], 16)
    assert sets.permitted == int(status["CapPrm"], 16)
    assert sets.inheritable == int(status["CapInh"], 16)
    assert capabilities.bounding() == int(status["CapBnd"], 16)


def test_a_limit_is_lowered_for_another_process() -> None:
    read, write = os.pipe()
    pid = os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)])
    try:
        number = rlimits.NUMBERS["RLIMIT_NOFILE"]
        rlimits.set(pid, number, 64, 128)
        assert rlimits.get(pid, number) == (64, 128)
    finally:
        os.close(read)
        os.close(write)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_pidfd_tells_the_end_of_a_process() -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "100"], {})
    fd = pidfd.pidfd_open(pid)
    try:
        assert not pidfd.wait(fd, 0)
        pidfd.send_signal(fd, signal.SIGKILL)
        assert pidfd.wait(fd)
        os.waitpid(pid, 0)
        with pytest.raises(ProcessLookupError):
            pidfd.send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)


def test_start_time_survives_a_name_with_parentheses() -> None:
    with open("/proc/self/stat") as file:
        expected = int(file.read().rpartition(")")[2].split()[19])
    assert pidfd.start_time(os.getpid()) == expected


def test_a_terminal_has_the_size_it_was_given() -> None:
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    tty.unlock(master)
    terminal = tty.open_peer(master)
    try:
        tty.set_window_size(master, 40, 132)
        assert tty.window_size(terminal) == (40, 132)
        old = tty.make_raw(terminal)
        os.write(master, b"\x03")
        assert os.read(terminal, 1) == b"\x03"
        tty.restore(terminal, old)
    finally:
        os.close(terminal)
        os.close(master)
