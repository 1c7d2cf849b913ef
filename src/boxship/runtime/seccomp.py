"""Compile ``linux.seccomp`` of the OCI runtime-spec into a BPF program, through libseccomp.

libseccomp knows the syscall numbers of all architectures and lays rules out as a search tree. What it does not do, and
runc does, comes in front of its program: a syscall with a number above every one that the rules name is newer than the
profile, and is answered with ENOSYS so that a C library falls back, not with the profile's refusal.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys

from boxship.base import atomicfile
from boxship.linux import seccomp as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_FORMAT = 1  # part of the cache key: raise it when the same profile compiles to another program
_X32_BIT = 0x40000000

# seccomp.h of libseccomp
_SCMP_FLTATR_CTL_NNP = 3
_SCMP_FLTATR_CTL_OPTIMIZE = 8
_NR_SCMP_ERROR = -1
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
_WITH_VALUE = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": kernel.SECCOMP_FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": kernel.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}

# linux/bpf_common.h
_LD_W_ABS, _JEQ_K, _JGE_K, _JGT_K, _RET_K, _JA = 0x20, 0x15, 0x35, 0x25, 0x06, 0x05
_OFFSET_NR, _OFFSET_ARCH = 0, 4  # struct seccomp_data
_OFFSET_COMMAND = 24 if sys.byteorder == "little" else 28  # the lower half of its args[1]
# AUDIT_ARCH_* (linux/audit.h) and ioctl's number: x86-64, x32, i386, aarch64, arm
_IOCTL = ((0xC000003E, 16), (0xC000003E, _X32_BIT | 514), (0x40000003, 54), (0xC00000B7, 29), (0x40000028, 54))


class SeccompError(Exception):
    """The document cannot be compiled; the text says why, for the person who wrote it."""


class SeccompUnavailableError(SeccompError):
    """This host has no libseccomp."""


class _ArgCmp(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class _Version(ctypes.Structure):
    """``struct scmp_version``."""

    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


_library: ctypes.CDLL | None = None


def compile(linux_seccomp: dict[str, Any], denied_ioctls: Collection[int] = ()) -> bytes:
    """Return the filter for ``linux_seccomp`` as an array of ``struct sock_filter``, ready for ``linux.seccomp.install``.

    The ioctl(2) commands ``denied_ioctls`` fail with EPERM whatever the document says: a rule with a condition can't take
    anything out of one without, so this stands before what libseccomp makes.
    Syscalls that libseccomp does not know are left out, as runc does: an older host cannot have them. Raises
    SeccompUnavailableError without libseccomp and SeccompError for a document out of form.
    """
    library = _load()
    default = _action(linux_seccomp.get("defaultAction"), linux_seccomp.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise SeccompError("seccomp: libseccomp refuses the default action")
    try:
        _must(library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_NNP, 0), "cannot leave no_new_privs alone")
        library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_OPTIMIZE, 2)  # before 2.5 the program is a list instead
        architectures = _add_architectures(library, context, linux_seccomp.get("architectures") or [])
        rules = linux_seccomp.get("syscalls") or []
        for rule in rules:
            _add_rule(library, context, rule, default)
        code = _export(library, context)
    finally:
        library.seccomp_release(context)
    if (default & 0xFFFF0000) not in (_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"]):
        code = _newer_is_enosys(library, architectures, rules) + code
    if denied_ioctls:
        code = _deny_ioctls(denied_ioctls) + code
    if len(code) > kernel.BPF_MAXINSNS * kernel.SOCK_FILTER_SIZE:
        raise SeccompError(f"seccomp: the filter has {len(code) // kernel.SOCK_FILTER_SIZE} instructions, above 4096")
    return code


def cached(linux_seccomp: dict[str, Any], cache_dir: str, denied_ioctls: Collection[int] = ()) -> str:
    """Return the path of the compiled filter (see :func:`compile`) in ``cache_dir``, compiling it if it is not there yet.

    The name is a digest of everything that the program depends on. Files appear whole; several processes may share the
    directory. Raises as :func:`compile` does, and OSError.
    """
    import hashlib  # brings OpenSSL along: not for processes that only install

    uname = os.uname()
    key = json.dumps(
        [_FORMAT, uname.release, uname.machine, library_version(), linux_seccomp, *denied_ioctls],
        sort_keys=True,
        separators=(",", ":"),
    )
    path = f"{cache_dir}/{hashlib.sha256(key.encode()).hexdigest()}.bpf"
    if not os.path.exists(path):
        code = compile(linux_seccomp, denied_ioctls)
        os.makedirs(cache_dir, 0o700, exist_ok=True)
        atomicfile.write(path, code)
    return path


def flags(linux_seccomp: dict[str, Any]) -> int:
    """Return the SECCOMP_FILTER_FLAG_* mask that ``linux_seccomp`` asks for.

    Without a list it is SPEC_ALLOW, as for runc: leave the speculative store bypass to the program's own choice. Raises
    SeccompError for an unknown flag.
    """
    names = linux_seccomp.get("flags")
    if names is None:
        return kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    mask = 0
    for name in names:
        if name not in _FLAGS:
            raise SeccompError(f"seccomp flag {name!r} is not known")
        mask |= _FLAGS[name]
    return mask


def library_version() -> str:
    """Return libseccomp's version such as "2.5.4"; raise SeccompUnavailableError without it."""
    version = _load().seccomp_version().contents
    return f"{version.major}.{version.minor}.{version.micro}"


def _load() -> ctypes.CDLL:
    """Load libseccomp at the first use: processes that only install programs never pay for it."""
    global _library
    if _library is not None:
        return _library
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as exc:
        raise SeccompUnavailableError("seccomp: libseccomp.so.2 is not installed on this host") from exc
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.restype = None
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_arch_native.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    library.seccomp_rule_add_array.argtypes = (
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.POINTER(_ArgCmp),
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.seccomp_version.restype = ctypes.POINTER(_Version)
    _library = library
    return library


def _must(result: int, what: str) -> None:
    if result < 0:
        raise SeccompError(f"seccomp: {what}: {os.strerror(-result)}")


def _action(name: str | None, errno_ret: int | None) -> int:
    """Return libseccomp's number for an action; ``errno_ret`` is its value where it has one, EPERM unless given."""
    if name not in _ACTIONS:
        raise SeccompError(f"invalid seccomp action {name!r}")
    if name in _WITH_VALUE:
        return _ACTIONS[name] | (errno.EPERM if errno_ret is None else errno_ret & 0xFFFF)
    return _ACTIONS[name]


def _add_architectures(library: ctypes.CDLL, context: int, names: list[str]) -> list[int]:
    """Add the named architectures beside the native one; return the tokens of all."""
    tokens = [library.seccomp_arch_native()]
    for name in names:
        token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
        if not token:
            raise SeccompError(f"seccomp architecture {name!r} is not known")
        result = library.seccomp_arch_add(context, token)
        if result != -errno.EEXIST:
            _must(result, f"cannot add architecture {name}")
        if token not in tokens:
            tokens.append(token)
    return tokens


def _add_rule(library: ctypes.CDLL, context: int, rule: dict[str, Any], default: int) -> None:
    action = _action(rule.get("action"), rule.get("errnoRet"))
    if action == default:
        return  # says nothing, and libseccomp refuses it
    for conditions in _condition_sets(rule.get("args") or []):
        array = (_ArgCmp * max(len(conditions), 1))(*conditions)
        for name in rule.get("names") or []:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == _NR_SCMP_ERROR:
                continue
            result = library.seccomp_rule_add_array(context, action, number, len(conditions), array)
            _must(result, f"cannot add the rule for {name}")


def _condition_sets(args: list[dict[str, Any]]) -> list[list[_ArgCmp]]:
    """Return the sets of conditions that ``args`` means: within a set all must hold, of the sets any.

    Conditions are one set unless two concern the same argument: then each is a set of its own. The runtime-spec does not
    say so, runc does it and profiles rely on it.
    """
    conditions = []
    for arg in args:
        if arg.get("op") not in _OPERATORS:
            raise SeccompError(f"invalid seccomp operator {arg.get('op')!r}")
        index = arg.get("index", 0)
        if not 0 <= index <= 5:
            raise SeccompError(f"invalid seccomp argument index {index}")
        conditions.append(_ArgCmp(index, _OPERATORS[arg["op"]], arg.get("value", 0), arg.get("valueTwo", 0)))
    if len({condition.arg for condition in conditions}) != len(conditions):
        return [[condition] for condition in conditions]
    return [conditions]


def _export(library: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp")
    try:
        _must(library.seccomp_export_bpf(context, fd), "cannot compile the filter")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _newer_is_enosys(library: ctypes.CDLL, architectures: list[int], rules: list[dict[str, Any]]) -> bytes:
    """Return instructions that answer ENOSYS to numbers above all that ``rules`` name, and fall through for others.

    x32 shares its audit number with x86_64 and differs by a bit of the syscall number.
    """
    x32 = library.seccomp_arch_resolve_name(b"x32")
    x86_64 = library.seccomp_arch_resolve_name(b"x86_64")
    limits = {token: _highest(library, token, rules) for token in architectures}
    x32_limit = limits.pop(x32, -1)
    code: list[bytes] = []
    for token, limit in limits.items():
        if limit < 0:
            continue
        check = _refuse_above(limit)
        if token == x86_64:
            # x32 numbers lie above all others: check them against their own limit, or leave them to the filter.
            own = _refuse_above(x32_limit) if x32_limit >= 0 else []
            check = [_bpf(_JGE_K, _X32_BIT, len(check) + 1, 0), *check, _bpf(_JA, len(own)), *own]
        # The next architecture's comparison needs the accumulator that the number now occupies.
        code += [_bpf(_LD_W_ABS, _OFFSET_ARCH), _bpf(_JEQ_K, token, 0, len(check) + 1), _bpf(_LD_W_ABS, _OFFSET_NR)]
        code += check
    return b"".join(code)


def _deny_ioctls(commands: Collection[int]) -> bytes:
    """Return instructions that answer EPERM to these commands of ioctl(2), and fall through for all else."""
    # The kernel takes the lower half of the argument; jumps count from the next instruction.
    refused = [_bpf(_LD_W_ABS, _OFFSET_COMMAND)]
    for command in commands:
        refused += [_bpf(_JEQ_K, command, 0, 1), _bpf(_RET_K, kernel.SECCOMP_RET_ERRNO | errno.EPERM)]
    code: list[bytes] = []
    for token, number in _IOCTL:
        check = [_bpf(_LD_W_ABS, _OFFSET_NR), _bpf(_JEQ_K, number, 0, len(refused)), *refused]
        code += [_bpf(_LD_W_ABS, _OFFSET_ARCH), _bpf(_JEQ_K, token, 0, len(check)), *check]
    return b"".join(code)


def _highest(library: ctypes.CDLL, token: int, rules: list[dict[str, Any]]) -> int:
    """Return the highest number on one architecture of the syscalls that ``rules`` name; -1 when there is none."""
    numbers = (
        library.seccomp_syscall_resolve_name_arch(token, name.encode())
        for rule in rules
        for name in rule.get("names") or []
    )
    return max(numbers, default=-1)


def _refuse_above(limit: int) -> list[bytes]:
    return [_bpf(_JGT_K, limit, 0, 1), _bpf(_RET_K, kernel.SECCOMP_RET_ERRNO | errno.ENOSYS)]


def _bpf(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k)
