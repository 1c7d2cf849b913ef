"""What package managers and programs say of themselves, also when they lie."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxship.build.attestations import databases, golang
from boxship.build.attestations.licenses import expression
from boxship.build.attestations.packages import Distribution, Package

BOOKWORM = Distribution("debian", "12", "Debian GNU/Linux 12 (bookworm)")


def test_os_release_is_read_as_a_shell_would() -> None:
    text = b'# comment\nPRETTY_NAME=\'Alpine Linux v3.20\'\nID=alpine\nVERSION_ID="3.20.1"\nBAD="open\n'
    assert databases.distribution(text) == Distribution("alpine", "3.20.1", "Alpine Linux v3.20")


def test_dpkg_lists_what_is_installed_and_parts_of_it_need_no_status() -> None:
    text = (
        b"Package: libc6\nStatus: install ok installed\nVersion: 2.36-9+deb12u4\nArchitecture: amd64\n"
        b"Description: GNU C Library\n Package: not-a-field\n\n"
        b"Package: old\nStatus: deinstall ok config-files\nVersion: 1\n\nVersion: nameless\n\n"
    )
    (found,) = databases.debian(text, "var/lib/dpkg/status", BOOKWORM)
    assert found.purl == "pkg:deb/debian/libc6@2.36-9+deb12u4?arch=amd64&distro=debian-12"
    (part,) = databases.debian(b"Package: tzdata\nVersion: 2024a-0\n", "x", Distribution())
    assert part.purl == "pkg:deb/debian/tzdata@2024a-0"


def test_apk_and_python_and_node() -> None:
    apk = b"C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nm:Natanael Copa <n@a.org>\nF:lib\nR:ld.so\n\n"
    (musl,) = databases.alpine(apk, "lib/apk/db/installed", Distribution("alpine", "3.20"))
    assert (musl.purl, musl.license) == ("pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20", "MIT")

    (wheel,) = databases.python(b"Name: Zope.Interface\nVersion: 5.0\nLicense: UNKNOWN\n\nName: body\n", "x")
    assert (wheel.purl, wheel.license) == ("pkg:pypi/zope-interface@5.0", "")

    (scoped,) = databases.node(b'{"name":"@a/b","version":"1.0.0","licenses":[{"type":"MIT"},{"type":"ISC"}]}', "x")
    assert (scoped.purl, scoped.license) == ("pkg:npm/%40a/b@1.0.0", "MIT OR ISC")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"name":1,"version":"1"}', b'{"name":"a/b/c","version":"1"}', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_package_json_is_no_package(text: bytes) -> None:
    assert list(databases.node(text, "x")) == []


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read(data: bytes) -> None:
    for parse in (databases.python, databases.node):
        list(parse(data, "x"))
    for package in (*databases.debian(data, "x", BOOKWORM), *databases.alpine(data, "x", BOOKWORM)):
        assert package.purl.isascii()
    databases.distribution(data)


def test_names_that_are_no_names_cannot_break_a_purl() -> None:
    package = Package(type="npm", name="a?b#c@d/e", version="1&x=2", source="x", namespace="@s p")
    assert package.purl == "pkg:npm/%40s%20p/a%3Fb%23c%40d%2Fe@1%26x%3D2"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("", "NOASSERTION"),
        ("MIT", "MIT"),
        ("(MIT OR Apache-2.0)", "(MIT OR Apache-2.0)"),
        ("GPL-2.0-only WITH Classpath-exception-2.0 AND BSD-3-Clause", None),
        ("GPL-2.0-or-later WITH Linux-syscall-note", None),
    ],
)
def test_licenses_of_spdx_stand_as_they_are(stated: str, expected: str | None) -> None:
    assert expression(stated) == (stated if expected is None else expected, {})


@pytest.mark.parametrize(
    "stated", ["BSD", "MIT AND", "MIT)", "(MIT", "MIT MIT", "WITH MIT", "MIT WITH GPL", "see LICENSE", "MIT OR (", "()"]
)
def test_other_licenses_stand_as_texts(stated: str) -> None:
    name, texts = expression(stated)
    assert name.startswith("LicenseRef-") and texts == {name: stated}


# Go programs


def program(info: bytes, *, name: bytes = b".go.buildinfo", flags: int = 2) -> bytes:
    """Return an ELF file with one section and the names of sections."""
    names = b"\0" + name + b"\0.shstrtab\0"
    at = 64
    section = b"\xff Go buildinf:" + bytes((8, flags)) + bytes(16) + info
    table = at + len(section) + len(names)

    def row(name_at: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name_at, 1, 0, 0, offset, size, 0, 0, 1, 0)

    rows = row(0, 0, 0) + row(1, at, len(section)) + row(2 + len(name), at + len(section), len(names))
    head = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    )
    return (head + section + names + rows).ljust(golang.SMALLEST, b"\0")


def string(text: bytes) -> bytes:
    length, out = len(text), b""
    while length >= 0x80:
        out, length = out + bytes((length & 0x7F | 0x80,)), length >> 7
    return out + bytes((length,)) + text


LINES = (
    b"path\texample.com/app\nmod\texample.com/app\tv1.2.3\th1:x=\n"
    b"dep\tgithub.com/spf13/pflag\tv1.0.5\th1:y=\ndep\told.org/x\tv0.1.0\n=>\tnew.org/fork/x\tv0.2.0\th1:z=\n"
)
INFO = string(b"go1.22.1 X:boringcrypto") + string(b"0" * 16 + LINES + b"1" * 16)


def modules(tmp_path: Path, data: bytes) -> list[str]:
    (tmp_path / "program").write_bytes(data)
    fd = os.open(tmp_path / "program", os.O_RDONLY)
    try:
        return [package.purl for package in golang.modules(fd, "program")]
    finally:
        os.close(fd)


def test_a_go_program_names_its_modules(tmp_path: Path) -> None:
    assert modules(tmp_path, program(INFO)) == [
        "pkg:golang/stdlib@1.22.1",
        "pkg:golang/example.com/app@v1.2.3",
        "pkg:golang/github.com/spf13/pflag@v1.0.5",
        "pkg:golang/new.org/fork/x@v0.2.0",
    ]


def test_other_programs_name_none(tmp_path: Path) -> None:
    assert modules(tmp_path, program(INFO, name=b".text")) == []
    assert modules(tmp_path, program(INFO, flags=0)) == []
    assert modules(tmp_path, b"#!/bin/sh\n" * 7000) == []


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_go_program_with_a_wrong_byte_is_read_to_its_end(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    data = bytearray(program(INFO))
    table = 64 + 32 + len(INFO)
    data[at if at < 200 else table + at - 200] = value
    directory = tmp_path_factory.getbasetemp()
    for purl in modules(directory, bytes(data)):
        assert purl.startswith("pkg:golang/")
