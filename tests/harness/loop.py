"""Loop devices and file systems on them, for what only a block device of one's own can show."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def device(size: int = 16 << 20) -> Iterator[str]:
    """Give a block device of ``size`` bytes; the test is skipped where the host has none to give."""
    with tempfile.NamedTemporaryFile(prefix="boxship-loop-") as file:
        file.truncate(size)
        made = _run("losetup", "--find", "--show", file.name)
        if made.returncode != 0:
            pytest.skip(f"no loop device: {made.stderr.strip()}")
        path = made.stdout.strip()
        try:
            yield path
        finally:
            _run("losetup", "--detach", path)


@contextlib.contextmanager
def filesystem(make: str, options: str, size: int = 300 << 20) -> Iterator[Path]:
    """Give a directory with a new file system, made by the command ``make`` and mounted with ``options``."""
    with device(size) as path, tempfile.TemporaryDirectory(prefix="boxship-fs-") as directory:
        try:
            made = _run(*make.split(), path)
        except FileNotFoundError as exc:
            pytest.skip(f"{exc.filename} is not installed")
        mounted = _run("mount", "-o", options, path, directory) if made.returncode == 0 else made
        if mounted.returncode != 0:
            pytest.skip(f"{make} with {options}: {mounted.stderr.strip()}")
        try:
            yield Path(directory)
        finally:
            _run("umount", directory)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)
