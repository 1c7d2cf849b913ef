"""The program behind ``--init``: the host's docker-init or tini, else the small one that Boxship brings along.

``docker-init.MACHINE`` beside this file are static programs of about 2 KiB, made by ``scripts/build-init`` from
``docker-init.c``. All functions block.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from boxship.base import atomicfile
from boxship.base.errors import SystemFailure

_HOST_PATHS = (
    "/usr/bin/docker-init",
    "/usr/sbin/docker-init",
    "/usr/libexec/docker/docker-init",
    "/usr/bin/tini-static",
    "/usr/bin/tini",
    "/sbin/tini",
)


def find(configured: str, directory: str) -> str:
    """Return the path of a program for ``--init``.

    ``configured`` is the daemon's ``init-path``, empty for any; ``directory`` takes our own one, which installers may
    leave without its mode. Raises SystemFailure if the configured one cannot be run or there is none for this machine.
    """
    if configured:
        if not os.access(configured, os.X_OK):
            raise SystemFailure(f"the init program {configured} of init-path cannot be executed")
        return configured
    return next((path for path in _HOST_PATHS if os.access(path, os.X_OK)), None) or _own(directory)


def program(machine: str) -> bytes | None:
    """Return our own init program for a machine in the kernel's words, None where there is none."""
    try:
        return (Path(__file__).parent / f"docker-init.{machine}").read_bytes()
    except FileNotFoundError:
        return None


def _own(directory: str) -> str:
    """Put our program into ``directory`` unless it is there; its name is its digest, so that containers keep theirs."""
    machine = platform.machine()
    content = program(machine)
    if content is None:
        raise SystemFailure(f"no init program found for --init: there is none of Boxship for {machine}, install tini")
    path = Path(directory) / hashlib.sha256(content).hexdigest()[:16]
    try:
        os.makedirs(directory, mode=0o711, exist_ok=True)
        if not os.access(path, os.X_OK) or path.read_bytes() != content:
            atomicfile.write(str(path), content, mode=0o755)
    except OSError as exc:
        raise SystemFailure(f"cannot put the init program into {directory}: {exc.strerror}") from exc
    return str(path)
