"""What one daemon claims for itself: its PID file, its data root, its directories."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os

from boxship.base import atomicfile
from boxship.base.identity import IdentityMapping

LOCK = "boxship.lock"
DATA_ROOT_MODE = 0o710
EXEC_ROOT_MODE = 0o710  # members of the socket's group pass, nobody else


class Claimed(Exception):
    """Another daemon has it; the text says which process and what."""


def make_directories(data_root: str, exec_root: str, *, group: str, identity: IdentityMapping | None = None) -> None:
    """Create both roots, or bring the modes of existing ones down to ours. Raises OSError.

    With ``identity`` the data root is a directory of its own inside the one that was configured; both let the group of
    container root pass, as Docker has it.
    """
    gid = 0
    with contextlib.suppress(KeyError):
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    places = [(data_root, DATA_ROOT_MODE, 0), (exec_root, EXEC_ROOT_MODE, gid)]
    if identity is not None:
        passing = identity.root[1]
        places = [
            (os.path.dirname(data_root), DATA_ROOT_MODE, passing),
            (data_root, DATA_ROOT_MODE, passing),
            places[1],
        ]
    for path, mode, owner in places:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, 0, owner)
        os.chmod(path, mode)


class DataRootLock:
    """An exclusive lock on a data root for this process's life; the kernel drops it whatever happens to us."""

    def __init__(self, data_root: str) -> None:
        path = os.path.join(data_root, LOCK)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(self._fd, 20).decode(errors="replace").strip()
            os.close(self._fd)
            raise Claimed(f"data root {data_root} is used by another boxshipd (process {holder or 'unknown'})") from exc
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another daemon have the data root."""
        os.close(self._fd)


class PidFile:
    """The file that names this process; refuses while the process it names lives."""

    def __init__(self, path: str) -> None:
        self._path = path
        pid = _read_pid(path)
        if pid is not None and pid != os.getpid() and _is_alive(pid):
            raise Claimed(f"process with PID {pid} is still running")
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o755, exist_ok=True)
        atomicfile.write(path, str(os.getpid()).encode(), mode=0o644, durable=False)

    def remove(self) -> None:
        """Remove the file if it still names this process."""
        if _read_pid(self._path) == os.getpid():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


def _read_pid(path: str) -> int | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(32).strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isascii() and text.isdecimal() else None


def _is_alive(pid: int) -> bool:
    """Return whether ``pid`` is a process that is not merely waiting to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
