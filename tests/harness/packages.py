"""Root filesystems with real programs out of the distribution's package archive, made in seconds without a chroot.

``apt-get`` finds and verifies the packages and all they depend on; their files are then joined into one tar. No maintainer
script runs, so who uses such a root brings the users and start-up scripts that those would have made.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.images import busybox_tar

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr since Debian 12
UNREAD = (
    *(f"usr/share/{name}/" for name in ("doc", "i18n", "info", "lintian", "locale", "man", "perl")),
    "usr/lib/postgresql/15/lib/bitcode/",
)
# Needed by maintainer scripts only, or by PostgreSQL's compiler, which nobody here uses.
UNUSED = ("adduser", "debconf", "dpkg", "libllvm", "libperl", "libz3", "locales", "perl", "tar", "usrmerge")


class NoArchive(Exception):
    """The packages can't be had here; the text says why."""


def packages_tar(
    directory: Path, packages: Sequence[str], *, files: Mapping[str, str] = {}, passwd: str = "", group: str = ""
) -> Path:
    """Make ``directory/root.tar``: busybox, these packages with their dependencies, and executable ``files``.

    ``passwd`` and ``group`` are added to the files of these names. Raises NoArchive.
    """
    with tarfile.open(directory / "root.tar", "w") as out:
        for name in MERGED:
            _add(out, name, type=tarfile.SYMTYPE, linkname=f"usr/{name}")
        _copy(io.BytesIO(busybox_tar()), out, extra={"etc/passwd": passwd, "etc/group": group})
        for package in _download(directory, packages):
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                _copy(io.BytesIO(process.stdout.read()), out)
            if process.returncode != 0:
                raise NoArchive(f"{package.name} can't be unpacked")
        for name, text in files.items():
            _add(out, name, text.encode(), mode=0o755)
    shutil.rmtree(directory / "archives")
    return directory / "root.tar"


def _download(directory: Path, packages: Sequence[str]) -> list[Path]:
    """Return the files of the packages and of all that they depend on, as if none were installed here."""
    archives = directory / "archives"
    archives.mkdir()
    installs = _apt_get(archives, "--simulate", "install", *packages)
    names = [line.split()[1] for line in installs.splitlines() if line.startswith("Inst ")]
    _apt_get(archives, "download", *(name for name in names if not name.startswith(UNUSED)))
    return sorted(archives.glob("*.deb"))


def _apt_get(directory: Path, *words: str) -> str:
    """Run ``apt-get`` in a directory and return its output; raises NoArchive."""
    command = ["apt-get", "-y", "-o", "Dir::State::status=/dev/null", "-o", "APT::Sandbox::User=root"]
    command += ["--no-install-recommends", "-o", "Debug::NoLocking=1", *words]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=100)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NoArchive(f"apt-get does not work here: {exc}") from exc
    if done.returncode != 0:
        raise NoArchive(f"the packages can't be had: {done.stderr.strip()[-500:]}")
    return done.stdout


def _copy(source: io.BytesIO, out: tarfile.TarFile, *, extra: Mapping[str, str] = {}) -> None:
    """Take over all entries that somebody reads, below /usr where the distribution has them today."""
    with tarfile.open(fileobj=source) as tar:
        for entry in tar:
            name = _merged(entry.name.removeprefix("./").rstrip("/"))
            if not name or name in MERGED or f"{name}/".startswith(UNREAD):
                continue
            entry.name = name
            if entry.islnk():
                entry.linkname = _merged(entry.linkname.removeprefix("./"))
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is not None and extra.get(name):
                data = content.read() + extra[name].encode()
                entry.size, content = len(data), io.BytesIO(data)
            out.addfile(entry, content)


def _merged(name: str) -> str:
    return f"usr/{name}" if name.split("/", 1)[0] in MERGED and "/" in name else name


def _add(out: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    out.addfile(entry, io.BytesIO(data))
