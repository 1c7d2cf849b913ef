"""The built-in image and the program in it."""

import os
import platform
import struct
import subprocess

import pytest

from boxship.images import elf, hello
from boxship.spec.oci import digest_of, parse_config

HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())


@pytest.mark.skipif(HERE is None, reason="no program for this processor")
def test_the_program_prints_its_text_and_exits_with_0(tmp_path: os.PathLike[str]) -> None:
    assert HERE is not None
    path = os.path.join(tmp_path, "hello")
    with open(path, "wb") as file:
        file.write(elf.printer(hello.TEXT, HERE))
    os.chmod(path, 0o755)
    done = subprocess.run([path], capture_output=True, check=True)
    assert done.stdout == hello.TEXT


@pytest.mark.row("MCH-10")
def test_the_text_says_that_the_installation_works() -> None:
    assert b"Hello from Boxship!" in hello.TEXT
    assert b"This message shows that your installation appears to be working correctly." in hello.TEXT


@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 62), ("arm64", 183)])
def test_the_file_is_a_static_program_of_its_processor(architecture: str, machine: int) -> None:
    program = elf.printer(b"x", architecture)
    assert program[:4] == b"\x7fELF"
    assert struct.unpack_from("<HH", program, 16) == (2, machine)
    assert struct.unpack_from("<I", program, 64) == (1,)


def test_the_arm_program_points_at_its_text() -> None:
    program = elf.printer(b"text", "arm64")
    adr = struct.unpack_from("<I", program, 120 + 4)[0]
    offset = ((adr >> 5 & 0x7FFFF) << 2) | (adr >> 29 & 3)
    assert program[120 + 4 + offset :] == b"text"


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        elf.printer(b"x", "riscv64")


def test_the_image_is_the_same_everywhere() -> None:
    tar = hello.layer("amd64")
    document = hello.config("amd64", tar)
    assert document == hello.config("amd64", hello.layer("amd64"))
    assert parse_config(document).diff_ids == [digest_of(tar)]
