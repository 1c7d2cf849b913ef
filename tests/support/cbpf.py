"""A classic BPF interpreter for seccomp filters, so that a test can ask a program about any architecture and syscall."""

import struct

X86_64 = 0xC000003E
I386 = 0x40000003
X32_BIT = 0x40000000


def run(program: bytes, arch: int, number: int, args: tuple[int, ...] = ()) -> int:
    """Return what ``program`` answers (SECCOMP_RET_*) for one system call."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, arch, 0, *(value & 0xFFFFFFFFFFFFFFFF for value in padded))
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = index = position = 0
    memory = [0] * 16
    while True:
        opcode, jump_true, jump_false, k = code[position]
        position += 1
        kind = opcode & 7
        if opcode == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif opcode == 0x60:
            accumulator = memory[k]
        elif opcode == 0x02:
            memory[k] = accumulator
        elif opcode == 0x54:
            accumulator &= k
        elif opcode == 0x07:
            index = accumulator
        elif opcode == 0x87:
            accumulator = index
        elif opcode == 0x05:
            position += k
        elif kind == 5:
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[opcode]
            position += jump_true if holds else jump_false
        elif opcode == 0x06:
            return k
        elif opcode == 0x16:
            return accumulator
        else:
            raise AssertionError(f"unknown opcode {opcode:#x}")
