"""The docker CLI as a file that can be put into a container."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest


def static_docker_cli() -> Path:
    """The docker CLI, where it runs without libraries; skips the test elsewhere."""
    found = shutil.which("docker")
    if found is None:
        pytest.skip("there is no docker CLI")
    if subprocess.run(["ldd", found], capture_output=True, check=False).returncode == 0:
        pytest.skip("the docker CLI here needs libraries")
    return Path(found)


@functools.cache
def docker_cli_release() -> int:
    """The docker CLI's major version; 0 without one."""
    if shutil.which("docker") is None:
        return 0
    words = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    return int(words.split()[2].split(".")[0])
