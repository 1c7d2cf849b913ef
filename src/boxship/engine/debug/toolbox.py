"""The tools: a static busybox of the host with a link for each of its commands, in a directory of the data root."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from boxship.base.errors import SystemFailure

CANDIDATES = ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/usr/lib/busybox/bin/busybox")

_PT_INTERP = 3  # elf(5): the program needs a loader, which a container may not have


def ensure(data_root: str, candidates: tuple[str, ...] = CANDIDATES) -> str:
    """Return the directory of the toolbox, made if it is not there yet; blocking.

    One call at a time. It is complete or absent, also after a crash, and one of another busybox has another name. Raises SystemFailure.
    """
    program = next((path for path in candidates if is_static(path)), None)
    if program is None:
        raise SystemFailure("there is no toolbox on this host: install busybox-static, or choose an image with --image")
    try:
        content = Path(program).read_bytes()
        parent = Path(data_root, "toolbox")
        parent.mkdir(mode=0o755, exist_ok=True)
        directory = parent / hashlib.sha256(content).hexdigest()[:16]
        if not directory.is_dir():
            _make(parent, directory, content)
    except OSError as exc:
        raise SystemFailure(f"failed to make the toolbox: {exc.strerror}") from exc
    return str(directory)


def is_static(path: str) -> bool:
    """Tell whether ``path`` is an ELF program that needs no loader."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:5] != b"\x7fELF\x02":
                return False
            (offset,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            file.seek(offset)
            table = file.read(size * count)
    except OSError:
        return False
    kinds = [struct.unpack_from("<I", table, at)[0] for at in range(0, len(table) - 3, size or len(table) or 1)]
    return bool(kinds) and _PT_INTERP not in kinds


def _make(parent: Path, directory: Path, content: bytes) -> None:
    for left in parent.glob("making-*"):
        shutil.rmtree(left, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=parent))
    making.chmod(0o755)
    tools = making / "bin"
    tools.mkdir(mode=0o755)
    program = tools / "busybox"
    program.write_bytes(content)
    program.chmod(0o755)
    listed = subprocess.run([str(program), "--list"], check=False, capture_output=True, text=True).stdout
    for name in listed.split():
        if "/" not in name and name != "busybox":
            (tools / name).symlink_to("busybox")
    making.rename(directory)
