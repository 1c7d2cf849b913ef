"""Which devices a cgroup may use: the rules of ``linux.resources.devices`` reduced to one set, and as a BPF program.

Rules apply in order. ``reduce`` gives what is left of them: a default and the exceptions from it. Version 1 takes that as
lines for ``devices.allow`` and ``devices.deny``, version 2 as a program of type BPF_PROG_TYPE_CGROUP_DEVICE, which the
kernel asks for each open and mknod with ``struct bpf_cgroup_dev_ctx {u32 access_type, major, minor}`` (linux/bpf.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from boxship.linux._libc import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANY = -1  # any major or minor number

# linux/bpf.h
BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
_DEVCG_TYPE = {"b": 1, "c": 2}
_DEVCG_ACCESS = {"m": 1, "r": 2, "w": 4}
_SYS_BPF = {"x86_64": 321, "aarch64": 280}

# opcodes, linux/bpf.h and linux/bpf_common.h
_LDX_W = 0x61  # dst = *(u32 *)(src + off)
_MOV64_REG = 0xBF
_MOV64_IMM = 0xB7
_AND32_IMM = 0x54
_RSH32_IMM = 0x74
_JNE_IMM = 0x55
_EXIT = 0x95
_R0, _R1, _TYPE, _ACCESS, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 1


class DeviceSet:
    """A default (``allow``) and its exceptions: (type "b" or "c", major, minor) to a mask of m, r, w letters."""

    __slots__ = ("allow", "exceptions")

    def __init__(self, allow: bool) -> None:
        self.allow = allow
        self.exceptions: dict[tuple[str, int, int], str] = {}

    def lines(self) -> list[str]:
        """Return the exceptions as lines for ``devices.allow`` (or ``devices.deny`` where the default allows)."""
        return [
            f"{kind} {_number(major)}:{_number(minor)} {access}"
            for (kind, major, minor), access in self.exceptions.items()
        ]


def reduce(rules: list[dict[str, Any]], *, allow: bool = True) -> DeviceSet:
    """Return what ``rules``, in order, make of a cgroup whose default is ``allow``.

    Raises ValueError for a rule out of form and for one that takes a device out of a wider exception: neither kernel
    interface has an exception from an exception.
    """
    result = DeviceSet(allow)
    for rule in rules:
        kind = rule.get("type") or "a"
        major, minor = _device_number(rule, "major"), _device_number(rule, "minor")
        access = rule.get("access") or "rwm"
        if kind == "u":
            kind = "c"
        if kind not in ("a", "b", "c") or set(access) - set("rwm"):
            raise ValueError(f"invalid device rule {rule!r}")
        if kind == "a" and major == ANY and minor == ANY and set(access) == set("rwm"):
            result = DeviceSet(bool(rule.get("allow")))
            continue
        for each in ("b", "c") if kind == "a" else (kind,):
            if bool(rule.get("allow")) != result.allow:
                _add(result, (each, major, minor), access)
            else:
                _take_away(result, (each, major, minor), access)
    return result


def _device_number(rule: dict[str, Any], name: str) -> int:
    value = rule.get(name)
    if value is None or value == ANY:
        return ANY
    if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"invalid device rule {rule!r}")
    return value


def _add(devices: DeviceSet, device: tuple[str, int, int], access: str) -> None:
    present = devices.exceptions.get(device, "")
    devices.exceptions[device] = "".join(letter for letter in "rwm" if letter in present or letter in access)


def _take_away(devices: DeviceSet, device: tuple[str, int, int], access: str) -> None:
    for other, present in list(devices.exceptions.items()):
        if not set(present) & set(access):
            continue
        if _covers(device, other):
            left = "".join(letter for letter in present if letter not in access)
            if left:
                devices.exceptions[other] = left
            else:
                del devices.exceptions[other]
        elif _covers(other, device):
            raise ValueError(f"device rule for {device!r} is an exception from the wider rule for {other!r}")


def _covers(wide: tuple[str, int, int], narrow: tuple[str, int, int]) -> bool:
    return wide[0] == narrow[0] and wide[1] in (ANY, narrow[1]) and wide[2] in (ANY, narrow[2])


def _number(value: int) -> str:
    return "*" if value == ANY else str(value)


def program(devices: DeviceSet) -> bytes:
    """Return ``devices`` as BPF instructions.

    The default is exact for what one exception names; a request for several accesses is an exception only when one
    entry holds all of them (default deny) or any of them (default allow).
    """
    code = [
        _instruction(_LDX_W, _TYPE, _R1, 0, 0),
        _instruction(_MOV64_REG, _ACCESS, _TYPE, 0, 0),
        _instruction(_AND32_IMM, _TYPE, 0, 0, 0xFFFF),
        _instruction(_RSH32_IMM, _ACCESS, 0, 0, 16),
        _instruction(_LDX_W, _MAJOR, _R1, 4, 0),
        _instruction(_LDX_W, _MINOR, _R1, 8, 0),
    ]
    for (kind, major, minor), access in devices.exceptions.items():
        code += _exception(kind, major, minor, sum(_DEVCG_ACCESS[letter] for letter in access), not devices.allow)
    code += [_instruction(_MOV64_IMM, _R0, 0, 0, int(devices.allow)), _instruction(_EXIT, 0, 0, 0, 0)]
    return b"".join(code)


def _exception(kind: str, major: int, minor: int, mask: int, allow: bool) -> list[bytes]:
    """Return the instructions that answer ``allow`` for one entry, and fall through for any other device."""
    tests = [(_JNE_IMM, _TYPE, _DEVCG_TYPE[kind])]
    if major != ANY:
        tests.append((_JNE_IMM, _MAJOR, major))
    if minor != ANY:
        tests.append((_JNE_IMM, _MINOR, minor))
    body = [_instruction(_MOV64_IMM, _R0, 0, 0, int(allow)), _instruction(_EXIT, 0, 0, 0, 0)]
    if mask != 7:
        # Allowing needs every asked access in the mask: no bit outside it. Denying needs one inside.
        bits = 7 & ~mask if allow else mask
        jump = _JNE_IMM if allow else 0x15  # JNE: leave when a bit is left; JEQ: leave when none is
        body = [
            _instruction(_MOV64_REG, _SCRATCH, _ACCESS, 0, 0),
            _instruction(_AND32_IMM, _SCRATCH, 0, 0, bits),
            _instruction(jump, _SCRATCH, 0, len(body), 0),
            *body,
        ]
    length = len(tests) + len(body)
    return [
        _instruction(code, register, 0, length - index - 1, value)
        for index, (code, register, value) in enumerate(tests)
    ] + body


def _instruction(code: int, dst: int, src: int, offset: int, immediate: int) -> bytes:
    return struct.pack(
        "=BBhi", code, dst | src << 4, offset, immediate - (1 << 32) if immediate >= 1 << 31 else immediate
    )


def attach(directory: str, devices: DeviceSet) -> None:
    """Make ``devices`` the device program of the version 2 cgroup at ``directory``, in place of earlier ones.

    The new program is attached before the old ones go (programs are and-ed), so at no time is more allowed than either
    allows. Raises OSError of bpf(2).
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = _attached(fd)
        if devices.allow and not devices.exceptions:
            new = -1  # a program that allows all is no program
        else:
            new = _load(program(devices))
        try:
            if new >= 0:
                _bpf(BPF_PROG_ATTACH, struct.pack("=IIII", fd, new, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI))
            for program_id in old:
                old_fd = _bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("=III", program_id, 0, 0))
                try:
                    _bpf(BPF_PROG_DETACH, struct.pack("=IIII", fd, old_fd, BPF_CGROUP_DEVICE, 0))
                finally:
                    os.close(old_fd)
        finally:
            if new >= 0:
                os.close(new)
    finally:
        os.close(fd)


def _attached(directory_fd: int) -> list[int]:
    """Return the ids of the device programs attached to a cgroup itself (not to its parents)."""
    ids = (ctypes.c_uint32 * 64)()
    query = ctypes.create_string_buffer(
        struct.pack("=IIIIQII", directory_fd, BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), len(ids), 0)
    )
    _bpf(BPF_PROG_QUERY, query)
    return list(ids[: struct.unpack_from("=I", query, 24)[0]])


def _load(code: bytes) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(b"Apache")  # the program calls no helper, so any text will do
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        *(BPF_PROG_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license_text)),
        *(0, 0, 0, 0, 0, b"boxship_devices", 0, BPF_CGROUP_DEVICE),
    )
    return _bpf(BPF_PROG_LOAD, attributes)


def _bpf(command: int, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Call bpf(2); return its answer, a new descriptor (close-on-exec) for some commands."""
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "bpf: not known for this architecture")
    buffer = ctypes.create_string_buffer(attributes, len(attributes)) if isinstance(attributes, bytes) else attributes
    arguments = (ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(len(buffer)))
    return check(libc.syscall(*arguments), "bpf")
