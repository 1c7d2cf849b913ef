"""Docker's seccomp profiles: the default one as data, and any one made concrete for a container.

A profile is a JSON document in Docker's format: ``linux.seccomp`` of the OCI runtime-spec, with ``archMap`` in place of
``architectures``, and with groups of syscalls that apply only with some capabilities, architectures or kernels
(``includes``, ``excludes``). The facts of the default profile, which syscalls with which arguments under which
capabilities, are those of github.com/moby/profiles, seccomp/default.json at 02e898b (July 2026).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection
from typing import Any

from boxship.base.errors import InvalidInput

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"

# linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
CLONE_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

_ALWAYS = """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32
    getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open
    openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev
    pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
    removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat
    shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
    stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
    uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
    writev
"""

# Address families of linux/socket.h: all below 12, and these. Left out are families that the kernel dropped (DECnet 12,
# ECONET 19, ATMSVC 20, IRDA 23, WANPIPE 25, ISDN 34, CAIF 37), ALG 38 (the kernel's cryptography, CVE-2026-31431) and
# VSOCK 40 (reaches virtual machines from any network namespace).
_FAMILIES_BELOW = 12
_FAMILIES = (*range(13, 19), 21, 22, 24, *range(26, 34), 35, 36, 39, *range(41, 46))

# Linux and SVR4 personality, with and without UNAME26, and the question for the present one.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_WITH_ARCHITECTURE = {
    ("ppc64le",): "sync_file_range2 swapcontext",
    ("arm", "arm64"): "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ("amd64", "x32"): "arch_prctl",
    ("amd64", "x32", "x86"): "modify_ldt",
    ("s390", "s390x"): "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    ("riscv64",): "riscv_flush_icache",
}

_WITH_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "SCMP_ARCH_AARCH64": ["SCMP_ARCH_ARM"],
    "SCMP_ARCH_MIPS64": ["SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
    "SCMP_ARCH_MIPS64N32": ["SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64"],
    "SCMP_ARCH_MIPSEL64": ["SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"],
    "SCMP_ARCH_MIPSEL64N32": ["SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64"],
    "SCMP_ARCH_S390X": ["SCMP_ARCH_S390"],
    "SCMP_ARCH_RISCV64": [],
    "SCMP_ARCH_LOONGARCH64": [],
}

# machine of uname(2): (the name in a profile's ``arches``, libseccomp's name in its ``archMap``)
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64"),
}


def default() -> dict[str, Any]:
    """Return Docker's default profile, a new document."""
    syscalls: list[dict[str, Any]] = [
        _allow(_ALWAYS),
        _allow("process_vm_readv process_vm_writev ptrace", includes={"minKernel": "4.8"}),
        _allow("socket", _argument(0, _FAMILIES_BELOW, "SCMP_CMP_LT")),
        *(_allow("socket", _argument(0, family, "SCMP_CMP_EQ")) for family in _FAMILIES),
        *(_allow("personality", _argument(0, value, "SCMP_CMP_EQ")) for value in _PERSONALITIES),
        *(_allow(names, includes={"arches": list(arches)}) for arches, names in _WITH_ARCHITECTURE.items()),
        *(_allow(names, includes={"caps": [capability]}) for capability, names in _WITH_CAPABILITY.items()),
        _allow(
            "clone",
            _argument(0, CLONE_NAMESPACES, "SCMP_CMP_MASKED_EQ"),
            excludes={"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]},
        ),
        _allow(
            "clone",
            _argument(1, CLONE_NAMESPACES, "SCMP_CMP_MASKED_EQ"),
            comment="s390 parameter ordering for clone is different",
            includes={"arches": ["s390", "s390x"]},
            excludes={"caps": ["CAP_SYS_ADMIN"]},
        ),
        # Its flags are behind a pointer. "No such call" makes C libraries use clone.
        {
            "names": ["clone3"],
            "action": ERRNO,
            "errnoRet": errno.ENOSYS,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
    ]
    return {
        "defaultAction": ERRNO,
        "defaultErrnoRet": errno.EPERM,
        "archMap": [{"architecture": name, "subArchitectures": list(sub)} for name, sub in _ARCHITECTURES.items()],
        "syscalls": syscalls,
    }


def _allow(names: str, argument: dict[str, Any] | None = None, **conditions: Any) -> dict[str, Any]:
    group: dict[str, Any] = {"names": names.split(), "action": ALLOW}
    if argument is not None:
        group["args"] = [argument]
    return group | conditions


def _argument(index: int, value: int, operator: str) -> dict[str, Any]:
    return {"index": index, "value": value, "op": operator}


def parse(text: str | bytes) -> dict[str, Any]:
    """Return the profile in a JSON text that a user gave; raises InvalidInput in Docker's words.

    Checks the form as far as :func:`for_container` relies on it; names of syscalls, actions and operators are checked
    where the profile is compiled.
    """
    try:
        profile = json.loads(text)
    except ValueError as exc:
        raise InvalidInput(f"Decoding seccomp profile failed: {exc}") from exc
    _check_object(profile, "profile")
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidInput(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        )
    for each in _check_list(profile, "archMap"):
        _check_object(each, "archMap")
    for group in _check_list(profile, "syscalls"):
        _check_object(group, "syscalls")
        if group.get("name") and group.get("names"):
            raise InvalidInput(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
            )
        for key in ("includes", "excludes"):
            condition = group.get(key) or {}
            _check_object(condition, key)
            if condition.get("minKernel"):
                _kernel_version(condition["minKernel"])
    return dict(profile)


def _check_object(value: object, name: str) -> None:
    if not isinstance(value, dict):
        raise InvalidInput(f"Decoding seccomp profile failed: {name} is not an object")


def _check_list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name) or []
    if not isinstance(value, list):
        raise InvalidInput(f"Decoding seccomp profile failed: {name} is not a list")
    return value


def for_container(
    profile: dict[str, Any], *, capabilities: Collection[str], arch: str, kernel: tuple[int, int]
) -> dict[str, Any] | None:
    """Return ``linux.seccomp`` of the OCI runtime-spec: the groups of ``profile`` that apply to one container.

    ``capabilities`` is its bounding set ("CAP_CHOWN"), ``arch`` the machine of uname(2), ``kernel`` (major, minor).
    None when the profile is empty, which means no filter. Raises InvalidInput for a minKernel out of form.
    """
    groups = profile.get("syscalls") or []
    if not profile.get("defaultAction") and not groups:
        return None
    arch_name, native = _MACHINES.get(arch, (arch, ""))
    copied = ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")
    result = {key: profile[key] for key in copied if profile.get(key) is not None}
    for each in profile.get("archMap") or []:
        if each.get("architecture") == native:
            result["architectures"] = [native, *(each.get("subArchitectures") or [])]
            break
    result["syscalls"] = [
        _concrete(group)
        for group in groups
        if not _any_holds(group.get("excludes") or {}, capabilities, arch_name, kernel)
        and _all_hold(group.get("includes") or {}, capabilities, arch_name, kernel)
    ]
    return result


def _concrete(group: dict[str, Any]) -> dict[str, Any]:
    syscall = {key: group[key] for key in ("names", "action", "errnoRet", "args") if group.get(key) is not None}
    if group.get("name"):
        syscall["names"] = [group["name"]]  # the form of profiles before Docker 1.13
    return syscall


def _any_holds(condition: dict[str, Any], capabilities: Collection[str], arch: str, kernel: tuple[int, int]) -> bool:
    if arch in (condition.get("arches") or []) or any(name in capabilities for name in condition.get("caps") or []):
        return True
    oldest = condition.get("minKernel")
    return bool(oldest) and kernel >= _kernel_version(oldest)


def _all_hold(condition: dict[str, Any], capabilities: Collection[str], arch: str, kernel: tuple[int, int]) -> bool:
    if condition.get("arches") and arch not in condition["arches"]:
        return False
    if not all(name in capabilities for name in condition.get("caps") or []):
        return False
    oldest = condition.get("minKernel")
    return not oldest or kernel >= _kernel_version(oldest)


def _kernel_version(text: object) -> tuple[int, int]:
    """Parse "major.minor" of a profile's ``minKernel``."""
    major, dot, minor = str(text).partition(".")
    if not (isinstance(text, str) and dot and _is_small_number(major) and _is_small_number(minor)):
        reason = ""
    elif (int(major), int(minor)) == (0, 0):
        reason = ": version cannot be 0.0"
    else:
        return int(major), int(minor)
    raise InvalidInput(
        "Decoding seccomp profile failed: invalid kernel version: "
        f'{json.dumps(text)}, expected "<kernel>.<major>"{reason}'
    )


def _is_small_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 256
