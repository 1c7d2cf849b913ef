"""The default profile in force: calls by number through the entries of 64-bit, x32 and 32-bit programs (fault R11)."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

from boxship.engine.options import seccomp_profile
from boxship.linux import prctl
from boxship.linux import seccomp as kernel
from boxship.runtime import seccomp

pytestmark = [
    pytest.mark.system,
    pytest.mark.row("ISO-06"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are of x86-64"),
]

X32_BIT = 0x40000000


def under_the_default_profile(question: Callable[[], int]) -> int:
    """Return what ``question`` answers in a child under the profile; -1 when the child died of a signal."""
    document = seccomp_profile.for_container(seccomp_profile.default(), capabilities=[], arch="x86_64", kernel=(6, 1))
    assert document is not None
    program = seccomp.compile(document)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prctl.set_no_new_privs()
            kernel.install(program, seccomp.flags(document))
            os.write(writer, struct.pack("=i", question()))
        finally:
            os._exit(0)
    os.close(writer)
    answer = os.read(reader, 4)
    os.close(reader)
    os.waitpid(pid, 0)
    return struct.unpack("=i", answer)[0] if answer else -1


def call_64(number: int, *arguments: int) -> int:
    """Return the errno of a system call, 0 for success."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(value) for value in arguments))
    return ctypes.get_errno() if result == -1 else 0


def call_32(number: int, first: int = 0, second: int = 0, third: int = 0) -> int:
    """Return the errno of a system call through int 0x80, 0 for success."""
    code = (
        b"\x53\x89\xf8\x89\xf3\x89\xd1\x44\x89\xc2"  # push rbx; eax=edi, ebx=esi, ecx=edx, edx=r8d
        b"\xcd\x80\x5b\xc3"  # int 0x80; pop rbx; ret
    )
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(code)
        buffer = (ctypes.c_char * len(code)).from_buffer(page)
        entry: Any = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 5)(ctypes.addressof(buffer))
        result: int = entry(number, first, second, 0, third)
        del entry, buffer
    return -result if -4096 < result < 0 else 0


@pytest.mark.parametrize(
    ("number", "arguments", "answer"),
    [
        pytest.param(39, (), 0, id="getpid"),
        pytest.param(165, (), errno.EPERM, id="mount"),
        pytest.param(272, (0x10000000,), errno.EPERM, id="unshare NEWUSER"),
        pytest.param(56, (0x10000011,), errno.EPERM, id="clone NEWUSER"),
        pytest.param(435, (), errno.ENOSYS, id="clone3"),
        pytest.param(321, (), errno.EPERM, id="bpf"),
        pytest.param(250, (), errno.EPERM, id="keyctl"),
        pytest.param(425, (1, 0), errno.EPERM, id="io_uring_setup"),
        pytest.param(161, (), errno.EPERM, id="chroot without its capability"),
        pytest.param(41, (38, 5, 0), errno.EPERM, id="socket ALG"),
        pytest.param(41, (40, 1, 0), errno.EPERM, id="socket VSOCK"),
        pytest.param(41, (1, 1, 0), 0, id="socket UNIX"),
        pytest.param(135, (0x40000,), errno.EPERM, id="personality"),
        pytest.param(600, (), errno.ENOSYS, id="a number of the future"),
    ],
)
def test_64_bit_calls(number: int, arguments: tuple[int, ...], answer: int) -> None:
    assert under_the_default_profile(lambda: call_64(number, *arguments)) == answer


@pytest.mark.parametrize("number", [165, 272, 321, 425])
def test_no_denied_call_passes_as_x32(number: int) -> None:
    # ENOSYS where the kernel is built without x32
    assert under_the_default_profile(lambda: call_64(number | X32_BIT)) in (errno.EPERM, errno.ENOSYS)


@pytest.mark.parametrize(
    ("number", "arguments", "answer"),
    [
        pytest.param(20, (), 0, id="getpid"),
        pytest.param(21, (), errno.EPERM, id="mount"),
        pytest.param(310, (0x10000000,), errno.EPERM, id="unshare NEWUSER"),
        pytest.param(359, (38, 5, 0), errno.EPERM, id="socket ALG"),
        pytest.param(359, (1, 1, 0), 0, id="socket UNIX"),
        pytest.param(357, (), errno.EPERM, id="bpf"),
        pytest.param(435, (), errno.ENOSYS, id="clone3"),
    ],
)
def test_32_bit_calls(number: int, arguments: tuple[int, ...], answer: int) -> None:
    actual = under_the_default_profile(lambda: call_32(number, *arguments))
    if actual == -1:
        pytest.skip("this kernel has no 32-bit entry")
    assert actual == answer
