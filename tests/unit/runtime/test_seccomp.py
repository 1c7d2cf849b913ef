import errno
import os
from pathlib import Path
from typing import Any

import pytest

from boxship.linux import seccomp as kernel
from boxship.runtime import seccomp
from support import cbpf

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers below are of x86-64")

READ, WRITE, SOCKET, PERSONALITY, CLONE, MOUNT, UNAME = 0, 1, 41, 135, 56, 165, 63
READ_I386 = 3
ARCHITECTURES = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
ALLOW = kernel.SECCOMP_RET_ALLOW
EPERM = kernel.SECCOMP_RET_ERRNO | errno.EPERM
ENOSYS = kernel.SECCOMP_RET_ERRNO | errno.ENOSYS


def document(*syscalls: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **extra: Any) -> dict[str, Any]:
    return {"defaultAction": default, "architectures": ARCHITECTURES, "syscalls": list(syscalls)} | extra


def allow(*names: str, **extra: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW"} | extra


def argument(index: int, value: int, op: str, value_two: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": value_two, "op": op}


def test_named_syscalls_are_allowed_on_every_architecture_of_the_profile() -> None:
    program = seccomp.compile(document(allow("read", "umount2")))
    assert cbpf.run(program, cbpf.X86_64, READ) == ALLOW
    assert cbpf.run(program, cbpf.X86_64, READ | cbpf.X32_BIT) == ALLOW
    assert cbpf.run(program, cbpf.I386, READ_I386) == ALLOW
    assert cbpf.run(program, cbpf.X86_64, WRITE) == EPERM
    assert cbpf.run(program, cbpf.X86_64, WRITE | cbpf.X32_BIT) == EPERM
    assert cbpf.run(program, cbpf.I386, 4) == EPERM


def test_an_architecture_outside_the_profile_is_killed() -> None:
    program = seccomp.compile(document(allow("read"), architectures=["SCMP_ARCH_X86_64"]))
    assert cbpf.run(program, cbpf.I386, READ_I386) == 0
    assert cbpf.run(program, cbpf.X86_64, READ | cbpf.X32_BIT) in (0, EPERM, ENOSYS)


@pytest.mark.parametrize(
    ("op", "value", "two", "yes", "no"),
    [
        ("SCMP_CMP_NE", 5, 0, 4, 5),
        ("SCMP_CMP_LT", 5, 0, 4, 5),
        ("SCMP_CMP_LE", 5, 0, 5, 6),
        ("SCMP_CMP_EQ", 5, 0, 5, 6),
        ("SCMP_CMP_GE", 5, 0, 5, 4),
        ("SCMP_CMP_GT", 5, 0, 6, 5),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x10, 0x1F, 0x2F),
        ("SCMP_CMP_EQ", 1 << 40, 0, 1 << 40, 0),
    ],
)
def test_comparisons_concern_the_whole_argument(op: str, value: int, two: int, yes: int, no: int) -> None:
    program = seccomp.compile(document(allow("personality", args=[argument(0, value, op, two)])))
    assert cbpf.run(program, cbpf.X86_64, PERSONALITY, (yes,)) == ALLOW
    assert cbpf.run(program, cbpf.X86_64, PERSONALITY, (no,)) == EPERM


def test_comparisons_of_several_arguments_must_all_hold() -> None:
    args = [argument(0, 2, "SCMP_CMP_EQ"), argument(1, 1, "SCMP_CMP_EQ")]
    program = seccomp.compile(document(allow("socket", args=args)))
    assert cbpf.run(program, cbpf.X86_64, SOCKET, (2, 1)) == ALLOW
    assert cbpf.run(program, cbpf.X86_64, SOCKET, (2, 2)) == EPERM


def test_of_two_comparisons_of_one_argument_one_suffices() -> None:
    args = [argument(0, 2, "SCMP_CMP_EQ"), argument(0, 10, "SCMP_CMP_EQ")]
    program = seccomp.compile(document(allow("socket", args=args)))
    assert [cbpf.run(program, cbpf.X86_64, SOCKET, (family,)) for family in (2, 10, 3)] == [ALLOW, ALLOW, EPERM]


def test_an_errno_of_its_own_is_given() -> None:
    rule = {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}
    program = seccomp.compile(document(rule, allow("mount"), defaultErrnoRet=errno.EACCES))
    assert cbpf.run(program, cbpf.X86_64, WRITE) == ENOSYS
    assert cbpf.run(program, cbpf.X86_64, READ) == kernel.SECCOMP_RET_ERRNO | errno.EACCES


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", kernel.SECCOMP_RET_KILL_PROCESS),
        ("SCMP_ACT_TRAP", 0x00030000),
        ("SCMP_ACT_ERRNO", EPERM),
        ("SCMP_ACT_TRACE", 0x7FF00001),
        ("SCMP_ACT_LOG", 0x7FFC0000),
    ],
)
def test_every_action_compiles_to_its_answer(action: str, answer: int) -> None:
    program = seccomp.compile(document({"names": ["write"], "action": action}, default="SCMP_ACT_ALLOW"))
    assert cbpf.run(program, cbpf.X86_64, WRITE) == answer
    assert cbpf.run(program, cbpf.X86_64, READ) == ALLOW


def test_numbers_above_the_profile_do_not_exist() -> None:
    program = seccomp.compile(document(allow("read", "mount")))
    assert cbpf.run(program, cbpf.X86_64, MOUNT - 1) == EPERM
    assert cbpf.run(program, cbpf.X86_64, MOUNT + 1) == ENOSYS
    assert cbpf.run(program, cbpf.X86_64, (MOUNT + 1) | cbpf.X32_BIT) == ENOSYS
    assert cbpf.run(program, cbpf.I386, 22) == ENOSYS  # mount is 21 there
    assert cbpf.run(program, cbpf.X86_64, 0xFFFFFFFF) == ENOSYS


def test_a_profile_that_allows_by_default_hides_no_numbers() -> None:
    program = seccomp.compile(document({"names": ["mount"], "action": "SCMP_ACT_ERRNO"}, default="SCMP_ACT_ALLOW"))
    assert cbpf.run(program, cbpf.X86_64, 5000) == ALLOW


@pytest.mark.parametrize(("arch", "number"), [(cbpf.X86_64, 16), (cbpf.X86_64, cbpf.X32_BIT | 514), (cbpf.I386, 54)])
def test_denied_commands_of_ioctl_fail_though_the_profile_allows_it(arch: int, number: int) -> None:
    program = seccomp.compile(document(allow("ioctl", "read")), (0x401C5820, 0x40086602))
    for command, answer in ((0x401C5820, EPERM), (0x40086602, EPERM), (0x5401, ALLOW), ((7 << 32) | 0x401C5820, EPERM)):
        assert cbpf.run(program, arch, number, (3, command)) == answer
    assert cbpf.run(program, cbpf.X86_64, READ, (3, 0x401C5820)) == ALLOW
    assert cbpf.run(program, cbpf.X86_64, WRITE, (3, 0x401C5820)) == EPERM


def test_unknown_syscalls_are_left_out() -> None:
    program = seccomp.compile(document(allow("read", "not_a_syscall")))
    assert cbpf.run(program, cbpf.X86_64, READ) == ALLOW


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (document(default="SCMP_ACT_NONSENSE"), "invalid seccomp action 'SCMP_ACT_NONSENSE'"),
        (document({"names": ["read"]}), "invalid seccomp action None"),
        (document(allow("read"), architectures=["SCMP_ARCH_VAX"]), "architecture 'SCMP_ARCH_VAX' is not known"),
        (document(allow("read", args=[argument(0, 1, "SCMP_CMP_LIKE")])), "invalid seccomp operator 'SCMP_CMP_LIKE'"),
        (document(allow("read", args=[argument(6, 1, "SCMP_CMP_EQ")])), "invalid seccomp argument index 6"),
    ],
)
def test_a_document_out_of_form_is_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(seccomp.SeccompError, match=message):
        seccomp.compile(bad)


def test_flags_become_a_mask() -> None:
    assert seccomp.flags({}) == kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert seccomp.flags({"flags": []}) == 0
    assert seccomp.flags({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]}) == 3
    with pytest.raises(seccomp.SeccompError, match="'SECCOMP_FILTER_FLAG_X' is not known"):
        seccomp.flags({"flags": ["SECCOMP_FILTER_FLAG_X"]})


def test_a_program_is_compiled_once_for_equal_documents(tmp_path: Path) -> None:
    cache = tmp_path / "seccomp"
    first = seccomp.cached(document(allow("read")), str(cache))
    os.utime(first, ns=(0, 0))
    again = seccomp.cached(dict(reversed(document(allow("read")).items())), str(cache))
    other = seccomp.cached(document(allow("write")), str(cache))
    assert first == again != other
    assert os.stat(first).st_mtime_ns == 0
    assert Path(first).read_bytes() == seccomp.compile(document(allow("read")))
    assert {str(path) for path in cache.iterdir()} == {first, other}
