"""The pipes between a shim and a process without a terminal."""

from __future__ import annotations

import fcntl
import os

PIPE_SIZE = 1 << 20  # bytes; fcntl(2) F_SETPIPE_SZ: what an unprivileged process may have at most, by default


class Pipes:
    """The shim's ends (-1 where there is none) and the process's ends, 0 to 2."""

    __slots__ = ("child", "stderr", "stdin", "stdout")

    def __init__(self, stdin: int, stdout: int, stderr: int, child: tuple[int, int, int]) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.child = child

    def close_child(self) -> None:
        """Close the process's ends here; it has them now."""
        for fd in self.child:
            os.close(fd)
        self.child = (-1, -1, -1)

    def close(self) -> None:
        """Close the shim's ends, which nobody else has taken."""
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = -1


def make(*, stdin: bool, output: bool, owner: tuple[int, int] | None = None) -> Pipes:
    """Make pipes for the input and both outputs as asked; ``/dev/null`` stands for the others. Raises OSError.

    ``owner``: uid and gid that may open the process's ends by name, for container root that is not the host's.
    """
    opened: list[int] = []

    def pipe() -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        opened.extend(ends)
        return ends

    def null() -> int:
        opened.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        return opened[-1]

    try:
        child_in, shim_in = pipe() if stdin else (null(), -1)
        shim_out, child_out = pipe() if output else (-1, null())
        shim_err, child_err = pipe() if output else (-1, null())
        if owner is not None:
            for fd in ((child_in,) if stdin else ()) + ((child_out, child_err) if output else ()):
                os.fchown(fd, *owner)
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    for fd in (shim_out, shim_err):
        if fd >= 0:
            _enlarge(fd)
    return Pipes(shim_in, shim_out, shim_err, (child_in, child_out, child_err))


def _enlarge(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except PermissionError:
        pass  # the user has as much pipe memory as it may: the usual size does
