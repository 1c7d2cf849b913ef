import errno
import json
import os
from typing import Any

import pytest

from boxship.base.errors import InvalidInput
from boxship.engine.options import seccomp_profile
from boxship.linux import seccomp as kernel
from boxship.runtime import seccomp
from support import cbpf

DEFAULT_CAPABILITIES = [
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
    "CAP_AUDIT_WRITE",
]
ALLOW = kernel.SECCOMP_RET_ALLOW
EPERM = kernel.SECCOMP_RET_ERRNO | errno.EPERM
ENOSYS = kernel.SECCOMP_RET_ERRNO | errno.ENOSYS


def concrete(profile: dict[str, Any], **changes: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"capabilities": DEFAULT_CAPABILITIES, "arch": "x86_64", "kernel": (6, 1)}
    document = seccomp_profile.for_container(profile, **(choice | changes))
    assert document is not None
    return document


def names(document: dict[str, Any]) -> set[str]:
    """Return what ``document`` allows without looking at arguments."""
    return {
        name
        for group in document["syscalls"]
        if group["action"] == "SCMP_ACT_ALLOW" and "args" not in group
        for name in group["names"]
    }


@pytest.fixture(scope="module")
def program() -> bytes:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are of x86-64")
    return seccomp.compile(concrete(seccomp_profile.default()))


@pytest.mark.row("ISO-06")
@pytest.mark.parametrize(
    ("number", "args", "answer"),
    [
        pytest.param(39, (), ALLOW, id="getpid"),
        pytest.param(161, (), ALLOW, id="chroot"),
        pytest.param(165, (), EPERM, id="mount"),
        pytest.param(166, (), EPERM, id="umount2"),
        pytest.param(272, (), EPERM, id="unshare"),
        pytest.param(308, (), EPERM, id="setns"),
        pytest.param(169, (), EPERM, id="reboot"),
        pytest.param(175, (), EPERM, id="init_module"),
        pytest.param(246, (), EPERM, id="kexec_load"),
        pytest.param(248, (), EPERM, id="add_key"),
        pytest.param(250, (), EPERM, id="keyctl"),
        pytest.param(298, (), EPERM, id="perf_event_open"),
        pytest.param(304, (), EPERM, id="open_by_handle_at"),
        pytest.param(321, (), EPERM, id="bpf"),
        pytest.param(323, (), EPERM, id="userfaultfd"),
        pytest.param(425, (), EPERM, id="io_uring_setup"),
        pytest.param(428, (), EPERM, id="open_tree"),
        pytest.param(435, (), ENOSYS, id="clone3"),
        pytest.param(101, (), ALLOW, id="ptrace"),
        pytest.param(56, (0x11,), ALLOW, id="fork by clone"),
        *(pytest.param(56, (0x11 | bit,), EPERM, id=f"clone {bit:#x}") for bit in (0x20000, 0x2000000, 0x10000000)),
        *(pytest.param(135, (value,), ALLOW, id=f"personality {value:#x}") for value in (0, 8, 0x20000, 0xFFFFFFFF)),
        pytest.param(135, (0x40000,), EPERM, id="personality ADDR_NO_RANDOMIZE"),
        *(pytest.param(41, (family, 1), ALLOW, id=f"socket {family}") for family in (1, 2, 10, 16, 17, 29, 44)),
        *(
            pytest.param(41, (family, 1), EPERM, id=f"socket {family}")
            for family in (12, 19, 37, 38, 40, 46, 1 << 32 | 38)
        ),
        pytest.param(5000, (), ENOSYS, id="a call of a newer kernel"),
    ],
)
def test_the_default_profile_answers_as_dockers(
    program: bytes, number: int, args: tuple[int, ...], answer: int
) -> None:
    assert cbpf.run(program, cbpf.X86_64, number, args) == answer
    assert cbpf.run(program, cbpf.X86_64, number | cbpf.X32_BIT, args) in (answer, EPERM, ENOSYS)


@pytest.mark.row("ISO-06")
@pytest.mark.parametrize(
    ("number", "args", "answer"),
    [
        pytest.param(20, (), ALLOW, id="getpid"),
        pytest.param(21, (), EPERM, id="mount"),
        pytest.param(310, (), EPERM, id="unshare"),
        pytest.param(359, (38, 5), EPERM, id="socket ALG"),
        pytest.param(359, (2, 1), ALLOW, id="socket INET"),
        pytest.param(435, (), ENOSYS, id="clone3"),
        pytest.param(120, (0x10000011,), EPERM, id="clone NEWUSER"),
    ],
)
def test_the_default_profile_holds_for_32_bit_programs(
    program: bytes, number: int, args: tuple[int, ...], answer: int
) -> None:
    assert cbpf.run(program, cbpf.I386, number, args) == answer


@pytest.mark.parametrize(
    ("capability", "opened"),
    [
        ("CAP_SYS_ADMIN", {"mount", "unshare", "setns", "clone", "clone3", "bpf", "sethostname"}),
        ("CAP_SYS_PTRACE", {"kcmp", "pidfd_getfd", "process_madvise"}),
        ("CAP_BPF", {"bpf"}),
        ("CAP_PERFMON", {"perf_event_open"}),
        ("CAP_SYS_TIME", {"settimeofday", "clock_settime"}),
        ("CAP_SYS_TTY_CONFIG", {"vhangup"}),
        ("CAP_SYSLOG", {"syslog"}),
        ("CAP_SYS_NICE", {"mbind", "set_mempolicy"}),
        ("CAP_SYS_RAWIO", {"iopl", "ioperm"}),
        ("CAP_SYS_MODULE", {"init_module", "finit_module", "delete_module"}),
        ("CAP_SYS_PACCT", {"acct"}),
        ("CAP_SYS_BOOT", {"reboot"}),
        ("CAP_DAC_READ_SEARCH", {"open_by_handle_at"}),
    ],
)
def test_a_capability_opens_its_syscalls(capability: str, opened: set[str]) -> None:
    profile = seccomp_profile.default()
    without, with_it = (
        names(concrete(profile)),
        names(concrete(profile, capabilities=[*DEFAULT_CAPABILITIES, capability])),
    )
    assert not opened & without
    assert opened <= with_it


def test_chroot_needs_its_capability() -> None:
    assert "chroot" not in names(concrete(seccomp_profile.default(), capabilities=[]))


def test_ptrace_is_allowed_since_linux_4_8() -> None:
    assert "ptrace" in names(concrete(seccomp_profile.default(), kernel=(4, 8)))
    assert "ptrace" not in names(concrete(seccomp_profile.default(), kernel=(4, 7)))


def test_the_architecture_chooses_sub_architectures_and_its_own_calls() -> None:
    amd64 = concrete(seccomp_profile.default())
    arm64 = concrete(seccomp_profile.default(), arch="aarch64")
    assert amd64["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert arm64["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "arch_prctl" in names(amd64) - names(arm64)
    assert "set_tls" in names(arm64) - names(amd64)


def test_the_default_profile_is_a_profile_that_a_user_could_give() -> None:
    profile = seccomp_profile.default()
    assert seccomp_profile.parse(json.dumps(profile)) == profile


@pytest.mark.row("ISO-06")
def test_a_profile_of_the_old_form_is_understood() -> None:
    profile = seccomp_profile.parse(
        '{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],'
        '"syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW","args":[]}]}'
    )
    assert concrete(profile) == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": []}],
    }


def test_an_empty_profile_is_no_filter() -> None:
    assert seccomp_profile.for_container({}, capabilities=[], arch="x86_64", kernel=(6, 1)) is None


def test_a_group_is_excluded_by_any_condition_and_included_by_all() -> None:
    group = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}

    def applies(**conditions: Any) -> bool:
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [group | conditions]}
        return bool(concrete(profile, capabilities=["CAP_KILL"])["syscalls"])

    assert not applies(includes={"caps": ["CAP_KILL", "CAP_CHOWN"]})
    assert not applies(excludes={"caps": ["CAP_KILL", "CAP_CHOWN"]})
    assert applies(includes={"caps": ["CAP_KILL"], "arches": ["amd64"], "minKernel": "6.1"})
    assert not applies(includes={"minKernel": "6.2"})
    assert not applies(excludes={"minKernel": "5.0"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Decoding seccomp profile failed: "),
        ("[]", "Decoding seccomp profile failed: "),
        ('{"syscalls": {}, "archMap": {"a": 1}}', "Decoding seccomp profile failed: "),
        (
            '{"architectures": ["a"], "archMap": [{}]}',
            "both 'architectures' and 'archMap' are specified in the seccomp",
        ),
        (
            '{"syscalls": [{"name": "a", "names": ["b"]}]}',
            "both 'name' and 'names' are specified in the seccomp profile",
        ),
        (
            '{"syscalls": [{"includes": {"minKernel": "4"}}]}',
            'invalid kernel version: "4", expected "<kernel>.<major>"',
        ),
        ('{"syscalls": [{"includes": {"minKernel": 4.8}}]}', "invalid kernel version: 4.8, expected"),
        ('{"syscalls": [{"excludes": {"minKernel": "0.0"}}]}', "version cannot be 0.0"),
    ],
)
def test_a_bad_profile_gets_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        seccomp_profile.parse(text)
    assert message in str(caught.value)
