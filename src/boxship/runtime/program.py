"""Finding the program of a container: what execvp(3) would take, with the errors users know."""

import errno
import os
import stat

from boxship.linux import fs
from boxship.linux.mount import AT_FDCWD
from boxship.runtime.failure import COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND, RuntimeFailure, reason


def find(name: str, search_path: str) -> str:
    """Return the path to execute for ``name``, looked up in ``search_path`` (a PATH) unless it has a slash.

    To be called inside the container's root, in its working directory and as its user. Raises RuntimeFailure.
    """
    if "/" in name:
        try:
            _check(name)
        except OSError as exc:
            missing = exc.errno in (errno.ENOENT, errno.ENOTDIR)
            text = f"stat {name}: {reason(exc)}" if exc.filename else reason(exc)
            code = COMMAND_NOT_FOUND if missing else COMMAND_NOT_EXECUTABLE
            raise RuntimeFailure(f'exec: "{name}": {text}', code) from exc
        return name
    for directory in search_path.split(":"):
        candidate = os.path.join(directory or ".", name)
        try:
            _check(candidate)
        except OSError:
            continue
        return candidate
    raise RuntimeFailure(f'exec: "{name}": executable file not found in $PATH', COMMAND_NOT_FOUND)


def failed(path: str, exc: OSError) -> RuntimeFailure:
    """Return the failure for an execve of ``path`` that the kernel refused."""
    missing = exc.errno in (errno.ENOENT, errno.ENOTDIR)
    code = COMMAND_NOT_FOUND if missing else COMMAND_NOT_EXECUTABLE
    return RuntimeFailure(f"exec {path}: {reason(exc)}", code)


def _check(path: str) -> None:
    """Raise OSError unless ``path`` is an executable file; with a filename if stat(2) failed, without if mode forbids."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode) or not mode & 0o111:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    # /proc/self/exe and its kind name what this process is or has open: programs of the host, not of the container.
    try:
        os.close(fs.openat2(AT_FDCWD, path, fs.O_PATH, resolve=fs.RESOLVE_NO_MAGICLINKS))
    except OSError as exc:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from exc
