import ctypes
import os
import struct

import pytest

from boxship.linux import prctl, seccomp

ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, seccomp.SECCOMP_RET_ALLOW)
# load the number; getppid (110 on x86-64, 173 on aarch64) is refused with 77
NUMBER = {"x86_64": 110, "aarch64": 173}.get(os.uname().machine, -1)
REFUSE_GETPPID = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, NUMBER & 0xFFFFFFFF),
        (0x06, 0, 0, seccomp.SECCOMP_RET_ERRNO | 77),
        (0x06, 0, 0, seccomp.SECCOMP_RET_ALLOW),
    )
)


def in_child(work) -> int:
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(NUMBER < 0, reason="no syscall number for this architecture")
def test_an_installed_filter_answers_for_the_kernel() -> None:
    def work() -> int:
        prctl.set_no_new_privs()
        assert seccomp.install(REFUSE_GETPPID) == 0
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.syscall(NUMBER) == -1
        return ctypes.get_errno()

    assert in_child(work) == 77


def test_flags_reach_the_kernel() -> None:
    def work() -> int:
        prctl.set_no_new_privs()
        flags = seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW | seccomp.SECCOMP_FILTER_FLAG_LOG
        return seccomp.install(ALLOW_ALL, flags)

    assert in_child(work) == 0


def test_a_listener_is_returned_as_a_descriptor() -> None:
    def work() -> int:
        prctl.set_no_new_privs()
        fd = seccomp.install(ALLOW_ALL, seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER)
        os.fstat(fd)
        return 0 if fd > 2 else 1

    assert in_child(work) == 0


@pytest.mark.parametrize("program", [b"", b"1234567", ALLOW_ALL * 4097, b"\xff" * 8])
def test_a_faulty_program_is_refused(program: bytes) -> None:
    def work() -> int:
        prctl.set_no_new_privs()
        try:
            seccomp.install(program)
        except OSError as exc:
            return 22 if exc.errno == 22 else 1
        return 0

    assert in_child(work) == 22


def test_known_answers_are_available_and_others_are_not() -> None:
    assert seccomp.action_available(seccomp.SECCOMP_RET_ERRNO)
    assert not seccomp.action_available(0x12345678)
