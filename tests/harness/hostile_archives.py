"""Hostile archives: a table of known tricks, and a generator of unknown ones."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from hypothesis import strategies as st

from harness.hostile import directory, entry, link, tar

_PARTS = ["a", "b", "c", "..", ".", "", "out", "kept", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..", "ü" * 130, "\udcff"]
_TYPES = [b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"\0", b"S", b"V", b"x"]
_names = st.builds(
    lambda absolute, parts: ("/" if absolute else "") + "/".join(parts),
    st.booleans(),
    st.lists(st.sampled_from(_PARTS), min_size=1, max_size=6),
)


@st.composite
def archives(draw: st.DrawFn, outside: str) -> bytes:
    """Draw an archive whose entries try to get at what lies in the directory ``outside``."""
    out = io.BytesIO()
    for _ in range(draw(st.integers(1, 12))):
        info = tarfile.TarInfo()
        info.name = draw(_names)
        info.type = draw(st.sampled_from(_TYPES))
        info.linkname = draw(
            st.one_of(_names, st.sampled_from([outside, f"{outside}/kept", f"/proc/self/root{outside}", "/", ".."]))
        )
        info.mode = draw(st.sampled_from([0, 0o644, 0o7777]))
        info.uid = draw(st.sampled_from([0, 1, 2**32 - 1, 2**40]))
        info.mtime = draw(st.sampled_from([0, 1, -5, 2**40]))
        data = draw(st.binary(max_size=600)) if info.type in (b"0", b"7", b"\0", b"S", b"x") else b""
        info.size = len(data)
        info.pax_headers = draw(
            st.sampled_from(
                [{}, {"SCHILY.xattr.trusted.overlay.opaque": "y"}, {"SCHILY.xattr.user.x": "y"}, {"size": "3"}]
            )
        )
        out.write(info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape") + data + bytes(-len(data) % 512))
    return out.getvalue() + bytes(1024)


def raw_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """Return a ustar header with any ``size`` field, its checksum right."""
    header = bytearray(512)
    header[0 : len(name)] = name
    header[100:108] = b"0000644\0"
    header[108:124] = b"0000000\0" * 2
    header[124 : 124 + len(size)] = size
    header[136:148] = b"00000000000\0"
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def tricks(outside: Path) -> dict[str, bytes]:
    """Archives of which nothing may land outside; all but those named ``bad ...`` may be taken."""
    deep = "d/" * 2000
    return {
        "absolute": tar([entry(str(outside / "file"), b"evil")]),
        "dots": tar([entry(f"../../../../../../../..{outside}/file", b"evil")]),
        "hard link out": tar([entry("l", type=tarfile.LNKTYPE, linkname=str(outside / "file")), entry("l", b"evil")]),
        "link then file": tar([link("d", str(outside)), entry("d/file", b"evil"), entry("d/new", b"evil")]),
        "link then directory": tar([link("d", str(outside)), directory("d"), entry("d/new", b"evil")]),
        "link chain": tar(
            [link("a", "b"), link("b", str(outside)), entry("a/new", b"evil"), link("b", "."), entry("a/x")]
        ),
        "type change": tar([directory("t"), entry("t/x", b"1"), link("t", str(outside)), entry("t/file", b"evil")]),
        "whiteout through a link": tar([link("w", str(outside)), entry("w/.wh.file"), entry("w/.wh..wh..opq")]),
        "whiteout of the parent": tar([entry(".wh..."), entry(".wh.."), entry("d/.wh...")]),
        "opaque root": tar([entry(".wh..wh..opq")]),
        "surrogates": tar([entry("caf\udce9\udcff", b"x")]),
        "long name": tar([entry("n" * 100_000, b"x")]),
        "deep": tar([entry(deep + "file", b"x")]),
        "device": tar([entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0)]),
        "old": tar([entry("old", b"x", mtime=-(1 << 40))]),
        "far": tar([entry("far", b"x", mtime=1 << 60)]),
        "trusted xattr": tar([entry("x", b"x", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": str(outside)})]),
        "opaque xattr": tar(
            [entry("x", type=tarfile.DIRTYPE, pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"})]
        ),
        "bad negative size": raw_header(b"x", b"\xff" * 12) + bytes(1024),
        "bad huge size": raw_header(b"x", b"\x80" + b"\x7f" * 11) + bytes(1024),
        "bad size text": raw_header(b"x", b"-0000000001\0") + bytes(1024),
        "bad pax size": raw_header(b"p", b"%011o\0" % 30, b"x")
        + b"30 size=999999999999999999999\n".ljust(512, b"\0")
        + bytes(1024),
        "bad truncated": tar([entry("x", b"y" * 5000)])[:2000],
        "bad rubbish": os.urandom(4096),
    }
