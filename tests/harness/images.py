"""Small root filesystems for tests, made from the host's static busybox."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Protocol


def busybox() -> Path:
    """The host's static busybox; raises FileNotFoundError when the package busybox-static is missing."""
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox")
    return Path(found)


@functools.cache
def busybox_tar() -> bytes:
    """A root filesystem with busybox, its applet links and the usual small files."""
    program = busybox().read_bytes()
    applets = subprocess.run([str(busybox()), "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (
            ("bin", 0o755),
            ("etc", 0o755),
            ("root", 0o700),
            ("tmp", 0o1777),
            ("var", 0o755),
            ("home", 0o755),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        files = {
            "bin/busybox": (program, 0o755),
            "etc/passwd": (
                b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\napp:x:1000:1000::/home:/bin/sh\n",
                0o644,
            ),
            "etc/group": (b"root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:2000:app\n", 0o644),
        }
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, "busybox", 0o777
                tar.addfile(entry)
    return buffer.getvalue()


class Importer(Protocol):
    """An engine that the docker CLI can be run against."""

    root: Path

    def docker(self, *args: str) -> object: ...


def import_busybox(engine: Importer, name: str = "busybox") -> None:
    """Import the root filesystem of :func:`busybox_tar` as an image."""
    path = engine.root / "busybox.tar"
    path.write_bytes(busybox_tar())
    engine.docker("import", "--change", 'CMD ["sh"]', str(path), name)
    path.unlink()


def import_program(engine: Importer, program: str, name: str) -> None:
    """Import busybox with one of the host's programs and the libraries it is linked with; FileNotFoundError if missing."""
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(program)
    words = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for file in [path, *sorted({word for word in words if word.startswith("/")})]:
            entry = tarfile.TarInfo(file.lstrip("/") if file != path else f"bin/{program}")
            content = Path(file).read_bytes()
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    archive = engine.root / f"{program}.tar"
    archive.write_bytes(buffer.getvalue())
    engine.docker("import", str(archive), name)
    archive.unlink()
