"""The smallest static programs: an ELF file that writes one text and exits, for the built-in image.

Sources: System V ABI, "Object Files"; elf(5); the processors' manuals for the five instructions that are needed.
"""

from __future__ import annotations

import struct

_BASE = 0x400000
_HEADER = 64
_PROGRAM_HEADER = 56
_START = _HEADER + _PROGRAM_HEADER  # of the code, in the file

_EM_X86_64 = 62
_EM_AARCH64 = 183
_ET_EXEC = 2
_PT_LOAD = 1
_R_X = 5

ARCHITECTURES = ("amd64", "arm64")  # Go's names


def printer(text: bytes, architecture: str) -> bytes:
    """Return a static executable that writes ``text`` (under 64 KiB) to standard output and exits with status 0.

    Raises ValueError for another architecture than those of ARCHITECTURES.
    """
    if architecture == "amd64":
        machine, code = _EM_X86_64, _x86_64(len(text))
    elif architecture == "arm64":
        machine, code = _EM_AARCH64, _aarch64(len(text))
    else:
        raise ValueError(f"no program for {architecture}")
    size = _START + len(code) + len(text)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bits, little endian, version 1, System V
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", _ET_EXEC, machine, 1, _BASE + _START, _HEADER, 0, 0, _HEADER, _PROGRAM_HEADER, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", _PT_LOAD, _R_X, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + code + text


def _x86_64(length: int) -> bytes:
    after = (
        b"\x0f\x05" + b"\xb8\x3c\x00\x00\x00" + b"\x31\xff" + b"\x0f\x05"
    )  # syscall; mov eax, 60; xor edi, edi; syscall
    before = b"\xb8\x01\x00\x00\x00" + b"\xbf\x01\x00\x00\x00"  # mov eax, 1 (write); mov edi, 1
    before += b"\xba" + struct.pack("<I", length)  # mov edx, length
    return before + b"\x48\x8d\x35" + struct.pack("<i", len(after)) + after  # lea rsi, [rip + text]


def _aarch64(length: int) -> bytes:
    def movz(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    svc = 0xD4000001
    offset = 28  # from adr to the text: seven instructions
    adr = 0x10000001 | (offset & 3) << 29 | (offset >> 2) << 5  # adr x1, text
    code = (movz(0, 1), adr, movz(2, length), movz(8, 64), svc, movz(0, 0), movz(8, 93), svc)  # write, exit
    return struct.pack("<8I", *code)
