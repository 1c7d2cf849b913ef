"""The program that the kernel holds for a container of runc, beside ours for the same document.

ptrace(2) gives an installed filter back (PTRACE_SECCOMP_GET_FILTER), so every syscall number of every architecture can
be asked of both without calling one.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.engine.options import seccomp_profile
from boxship.linux import seccomp as kernel
from boxship.runtime import seccomp
from support import cbpf

pytestmark = [
    pytest.mark.system,
    pytest.mark.row("ISO-06"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the architectures below are those of x86-64"),
]

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_SECCOMP_GET_FILTER = 17, 0x4206, 0x4207, 0x420C
WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, data: object = None) -> int:
    result: int = _libc.ptrace(request, pid, address, data)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def installed_filter(pid: int) -> bytes:
    """Return the filter that was installed last in ``pid``, as the kernel keeps it."""
    ptrace(PTRACE_SEIZE, pid)
    try:
        ptrace(PTRACE_INTERRUPT, pid)
        os.waitpid(pid, WALL)
        count = ptrace(PTRACE_SECCOMP_GET_FILTER, pid)
        code = ctypes.create_string_buffer(count * kernel.SOCK_FILTER_SIZE)
        ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0, code)
        return code.raw
    except OSError as exc:
        pytest.skip(f"the kernel does not give filters back: {exc}")
    finally:
        ptrace(PTRACE_DETACH, pid)


@pytest.fixture
def document() -> dict[str, Any]:
    major, minor = platform.release().split(".")[:2]
    result = seccomp_profile.for_container(
        seccomp_profile.default(),
        capabilities=["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"],
        arch=os.uname().machine,
        kernel=(int(major), int(minor)),
    )
    assert result is not None
    return result


@pytest.fixture
def runc_pid(tmp_path: Path, document: dict[str, Any]) -> Iterator[int]:
    """Run a sleeping container of runc with ``document`` and give the PID of its init."""
    if shutil.which("runc") is None or not os.path.exists("/bin/busybox"):
        pytest.skip("needs runc and busybox")
    rootfs = tmp_path / "rootfs"
    (rootfs / "proc").mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "busybox")
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/busybox", "sleep", "1000"],
            "env": [],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            "seccomp": document,
            "cgroupsPath": f"/boxship-test-{os.urandom(6).hex()}",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    name = f"boxship-test-{os.urandom(6).hex()}"
    runc = ["runc", "--root", str(tmp_path / "state")]
    pid_file = tmp_path / "pid"
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [*runc, "run", "--detach", "--bundle", str(tmp_path), "--pid-file", str(pid_file), name]
    subprocess.run(command, check=True, timeout=60, **streams)
    try:
        yield int(pid_file.read_text())
    finally:
        subprocess.run([*runc, "delete", "--force", name], check=True, timeout=60, **streams)


def questions() -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield architecture, number and arguments that cover the profile's distinctions."""
    arguments = [(value,) for value in (*range(50), 0x20000, 0x20008, 0x10000011, 0x2000000, 0xFFFFFFFF, 1 << 32)]
    for number in range(520):
        for architecture, bit in ((cbpf.X86_64, 0), (cbpf.X86_64, cbpf.X32_BIT), (cbpf.I386, 0)):
            yield architecture, number | bit, ()
    for architecture, number in (
        *((cbpf.X86_64, each | bit) for each in (41, 56, 135) for bit in (0, cbpf.X32_BIT)),
        *((cbpf.I386, each) for each in (359, 120, 136)),
    ):
        for values in arguments:
            yield architecture, number, values


def test_the_kernel_answers_for_us_as_for_runc(runc_pid: int, document: dict[str, Any]) -> None:
    theirs = installed_filter(runc_pid)
    ours = seccomp.compile(document)
    different = [
        (hex(architecture), hex(number), arguments, hex(cbpf.run(ours, architecture, number, arguments)))
        for architecture, number, arguments in questions()
        if cbpf.run(ours, architecture, number, arguments) != cbpf.run(theirs, architecture, number, arguments)
    ]
    assert different == []


def test_an_installed_program_is_the_compiled_one(document: dict[str, Any]) -> None:
    program = seccomp.compile(document)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.install(program, seccomp.flags(document))
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(writer)
        assert os.read(reader, 1) == b"x"
        assert installed_filter(pid) == program
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
