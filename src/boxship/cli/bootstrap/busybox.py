"""A root filesystem of one program: the distribution's static busybox with a name for each of its applets."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile

from boxship.cli.bootstrap.debian import BootstrapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PT_INTERP = 3

DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "root": 0o700,
    "sbin": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,  # a directory of the image
    "var/www": 0o755,
}
FILES = {
    "etc/group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\nmail:x:8:\nwww-data:x:33:\n"
        "users:x:100:\nnogroup:x:65534:\n"
    ),
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
        "sys:x:3:3:sys:/dev:/bin/false\nmail:x:8:8:mail:/var/spool/mail:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/shadow": "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
}


def bootstrap_busybox(log: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the tar: the busybox of this host, or of its package archive. Raises BootstrapError before the first piece."""
    with tempfile.TemporaryDirectory(prefix="boxship-bootstrap-") as directory:
        path = _installed() or _downloaded(directory, log)
        applets = _applets(path)
        with open(path, "rb") as file:
            program = file.read()
        mtime = int(os.environ.get("SOURCE_DATE_EPOCH") or os.stat(path).st_mtime)
    yield build(program, applets, mtime)


def build(program: bytes, applets: list[str], mtime: int) -> bytes:
    """Return the tar of a root filesystem: ``applets`` are paths without leading slash; equal input, equal bytes (pure)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, mode: int, *, data: bytes = b"", type: bytes = tarfile.REGTYPE, link: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.mode, member.type, member.linkname = mode, type, link
            member.size, member.mtime = len(data), mtime
            tar.addfile(member, io.BytesIO(data))

        for name, mode in DIRECTORIES.items():
            add(name, mode, type=tarfile.DIRTYPE)
        for name, text in FILES.items():
            add(name, 0o600 if name == "etc/shadow" else 0o644, data=text.encode())
        add("bin/busybox", 0o755, data=program)
        for applet in sorted(set(applets)):
            if applet != "bin/busybox" and os.path.dirname(applet) in DIRECTORIES:
                add(applet, 0o755, type=tarfile.LNKTYPE, link="bin/busybox")
    return out.getvalue()


def is_static(path: str) -> bool:
    """Return whether the file is an ELF program without an interpreter; elf(5)."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:5] != b"\x7fELF\x02" or head[5] != 1:
                return False
            offset = struct.unpack_from("<Q", head, 32)[0]
            size, count = struct.unpack_from("<HH", head, 54)
            file.seek(offset)
            table = file.read(size * count)
    except OSError:
        return False
    types = [struct.unpack_from("<I", table, start)[0] for start in range(0, len(table) - 3, size or 1)]
    return bool(types) and _PT_INTERP not in types


def _installed() -> str | None:
    candidates = ("/bin/busybox", "/usr/bin/busybox", shutil.which("busybox"), shutil.which("busybox-static"))
    return next((path for path in candidates if path and is_static(path)), None)


def _downloaded(directory: str, log: Callable[[str], None]) -> str:
    """Fetch the package busybox-static, without installing it, and return the program's path."""
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise BootstrapError(f"there is no static busybox on this host, and no {tool} to fetch one")
    log("I: downloading busybox-static")
    os.chmod(directory, 0o755)  # apt drops its privileges for downloads
    done = subprocess.run(
        ["apt-get", "download", "busybox-static"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    packages = [name for name in os.listdir(directory) if name.endswith(".deb")]
    if done.returncode != 0 or not packages:
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("E:")), "apt-get download failed")
        raise BootstrapError(f"there is no static busybox on this host, and it can't be downloaded: {reason}")
    archive = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", os.path.join(directory, packages[0])], stdout=subprocess.PIPE, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        for member in tar:
            if member.isreg() and os.path.basename(member.name) == "busybox":
                source = tar.extractfile(member)
                assert source is not None
                path = os.path.join(directory, "busybox")
                with open(path, "wb") as file:
                    file.write(source.read())
                os.chmod(path, 0o755)  # it is run to list its applets
                os.utime(path, (member.mtime, member.mtime))
                return path
    raise BootstrapError("the package busybox-static holds no busybox")


def _applets(path: str) -> list[str]:
    done = subprocess.run([path, "--list-full"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    applets = done.stdout.decode("utf-8", "replace").split()
    if done.returncode != 0 or not applets:
        raise BootstrapError(f"{path} does not list its applets")
    return applets
