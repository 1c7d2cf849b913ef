"""A CRIU that works on this kernel: the installed one, or a newer one out of Debian's archive in a directory of its own."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

RELEASE = "forky"  # CRIU 4.2; on Linux 6.18 that of Debian 12 fails, and 4.1 with TCP sockets
ARCHIVE = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
CACHE = Path("/var/cache/boxship-tests/criu")
WRAPPER = """#!/bin/sh
exec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/sbin/criu "$@"
"""


class NoCriu(Exception):
    """There is none that works; the text says why."""


@functools.cache
def directory() -> str:
    """Return the directory of a program ``criu`` that saves and restores a process here. Raises NoCriu."""
    installed = shutil.which("criu", path=f"{os.environ['PATH']}:/usr/sbin")
    reason = "it is not installed"
    if installed is not None:
        reason = _trouble(installed)
        if not reason:
            return str(Path(installed).parent)
    try:
        other = _fetched()
    except (OSError, subprocess.SubprocessError) as exc:
        output = getattr(exc, "stderr", None)
        raise NoCriu(f"criu does not work on this kernel ({reason}), and no other can be had: {output or exc}") from exc
    if trouble := _trouble(str(other / "criu")):
        raise NoCriu(f"criu does not work on this kernel: {trouble}")
    return str(other)


def _trouble(program: str) -> str:
    """Try CRIU on a small process; return what went wrong, "" if nothing did."""
    with tempfile.TemporaryDirectory(prefix="boxship-criu-") as images:
        process = subprocess.Popen(
            ["setsid", "sleep", "60"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
        )
        try:
            for words in (  # the process is reaped in between: its number must be free
                ["check"],
                ["dump", "-t", str(process.pid), "-D", images],
                ["restore", "-D", images, "-d", "--pidfile", "restored"],
            ):
                done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)
                if done.returncode != 0:
                    errors = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
                    return f"criu {words[0]}: {errors[-1] if errors else done.stderr.strip()[-200:]}"
                if words[0] == "dump":
                    process.wait(60)
            os.kill(int(Path(images, "restored").read_text()), 9)
        except (OSError, subprocess.SubprocessError) as exc:
            return str(exc)
        finally:
            process.kill()
            process.wait()
    return ""


def _fetched() -> Path:
    """Return the directory of the newer CRIU, fetched at first use."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / RELEASE).exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as made:
                _fetch(Path(made))
                os.rename(Path(made, "whole"), CACHE / RELEASE)
    return CACHE / RELEASE


def _fetch(work: Path) -> None:
    """Make ``whole`` in the directory: the package with all that it depends on, the C library too, and a program."""
    for name in ("lists/partial", "cache/archives/partial", "whole/root"):
        (work / name).mkdir(parents=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYS}] {ARCHIVE} {RELEASE} main\n")
    options = {
        "Dir::State::lists": work / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-y", *(f"-o{name}={value}" for name, value in options.items())]

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=work, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    run(*apt, "update")
    wanted = [
        line.split()[1] for line in run(*apt, "--simulate", "install", "criu").splitlines() if line[:5] == "Inst "
    ]
    run(*apt, "download", *(name for name in wanted if name == "criu" or name.startswith("lib")))
    for package in work.glob("*.deb"):
        run("dpkg-deb", "--extract", str(package), "whole/root")
    shutil.rmtree(work / "whole/root/usr/share", ignore_errors=True)
    program = work / "whole/criu"
    program.write_text(WRAPPER.format(root=CACHE / RELEASE / "root"))
    program.chmod(0o755)
