"""A daemon whose writes can be made to fail, one chosen system call at a time, whatever thread or process of it makes it.

Theory of operation. This file is also a program: it installs a seccomp filter that hands every system call which takes room on
a disk to a listener (SECCOMPRET_USER_NOTIF), sends the listener to the test over a Unix socket, and executes the daemon. A
thread of the test answers: the call goes on, or, if it is the chosen one among those below the data root, it fails. So what
SQLite does, and what C and Python do in threads, all counts; nothing is patched.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import sys
import threading
from pathlib import Path

from boxship.linux import seccomp

_TAKES_A_DESCRIPTOR = frozenset(
    ("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "syncfs", "ftruncate", "fallocate", "fsetxattr")
)
_TAKES_A_TARGET = {"copy_file_range": 2, "sendfile": 0}  # which argument is the descriptor that is written to
_TAKES_A_PATH = {"mkdirat": 0, "mknodat": 0, "openat": 0, "openat2": 0, "symlinkat": 1, "renameat2": 2, "renameat": 2}
_TAKES_A_PATH |= {"linkat": 2}  # which argument is the directory; the path follows it
_TAKES_A_PATH_ALONE = {"mkdir": 0, "rename": 1, "link": 1, "symlink": 1, "setxattr": 0, "lsetxattr": 0, "open": 0}
_NAMES = (*_TAKES_A_DESCRIPTOR, *_TAKES_A_TARGET, *_TAKES_A_PATH, *_TAKES_A_PATH_ALONE)
_OPEN_FLAGS = {"open": 1, "openat": 2}
_AT_FDCWD = 0xFFFFFF9C
_CREATING = os.O_CREAT | os.O_TRUNC | 0o20000000  # __O_TMPFILE

# linux/seccomp.h
RET_USER_NOTIF = 0x7FC00000
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_ANSWER = struct.Struct("=QqiI")
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE

# linux/bpf_common.h, linux/audit.h
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


class FailingWrites:
    """Answers for the daemon that is started behind :attr:`wrapper`; close it after the daemon's end."""

    def __init__(self, data_root: Path, place: Path) -> None:
        self._root = str(data_root)
        self._names = {number: name for name in _NAMES if (number := _number(name)) >= 0}
        self._path = str(place / "listener.sock")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self._path)
        self._server.listen()
        self._lock = threading.Lock()
        self._counting = False
        self._chosen = -1
        self._error = 0
        self.calls: list[str] = []  # since the last `count`: "pwrite64 boxship.db-wal"
        self.failed = ""  # the one that was made to fail
        self._stop, self._stopped = os.pipe()
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    @property
    def wrapper(self) -> list[str]:
        """The words to put in front of the daemon's program."""
        return [sys.executable, __file__, self._path]

    def count(self, chosen: int = -1, error: int = errno.ENOSPC) -> None:
        """Note the calls from now on; let number ``chosen`` (from 0) fail with ``error``."""
        with self._lock:
            self._counting, self._chosen, self._error = True, chosen, error
            self.calls, self.failed = [], ""

    def rest(self) -> list[str]:
        """Note nothing more, let nothing fail; return what was noted."""
        with self._lock:
            self._counting = False
            return self.calls

    def close(self) -> None:
        """End the threads. Calls of processes that are still there fail from now on."""
        os.close(self._stopped)
        for thread in self._threads:
            thread.join(30)
        os.close(self._stop)
        self._server.close()

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._readable(self._server.fileno()):
            connection, _ = self._server.accept()
            with connection:
                _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4))
                (listener,) = array.array("i", ancillary[0][2])
                connection.send(b"!")
            self._spawn(self._serve, listener)

    def _readable(self, fd: int) -> bool:
        """Wait for something to read; return False when this is to end, or nobody will write there any more."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        found = dict(poll.poll())
        return self._stop not in found and bool(found[fd] & select.POLLIN)

    def _serve(self, listener: int) -> None:
        with contextlib.closing(_Closing(listener)):
            while self._readable(listener):
                data = bytearray(_NOTIFICATION.size)
                with contextlib.suppress(FileNotFoundError):  # the caller was killed meanwhile
                    fcntl.ioctl(listener, _RECEIVE, data)
                    id, pid, _, number, _, _, *arguments = _NOTIFICATION.unpack(data)
                    error = self._verdict(pid, self._names[number], arguments)
                    answer = _ANSWER.pack(id, 0, -error, 0 if error else _CONTINUE)
                    fcntl.ioctl(listener, _SEND, answer)

    def _verdict(self, pid: int, name: str, arguments: list[int]) -> int:
        """Return the error that the call shall have, 0 for none."""
        if not self._counting:
            return 0
        try:
            path = _target(pid, name, arguments)
        except (OSError, ValueError):
            return 0  # it will fail by itself
        if not path.startswith(f"{self._root}/"):
            return 0
        with self._lock:
            if not self._counting:
                return 0
            self.calls.append(f"{name} {path[len(self._root) + 1 :]}")
            if len(self.calls) - 1 != self._chosen:
                return 0
            self.failed = self.calls[-1]
            return self._error


class _Closing:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)


def _number(name: str) -> int:
    """Return the number of a system call, below 0 where this architecture has none of that name."""
    library = ctypes.CDLL("libseccomp.so.2")
    return int(library.seccomp_syscall_resolve_name(name.encode()))


def _target(pid: int, name: str, arguments: list[int]) -> str:
    """Return the path that a call writes to, "" when it writes nothing. Raises OSError, ValueError."""
    if name in _TAKES_A_DESCRIPTOR or name in _TAKES_A_TARGET:
        return os.readlink(f"/proc/{pid}/fd/{arguments[_TAKES_A_TARGET.get(name, 0)]}")
    if name in _OPEN_FLAGS and not arguments[_OPEN_FLAGS[name]] & _CREATING:
        return ""
    if name == "openat2" and not struct.unpack("=Q", _memory(pid, arguments[2], 8))[0] & _CREATING:
        return ""
    if name in _TAKES_A_PATH:
        position = _TAKES_A_PATH[name]
        directory, path = arguments[position] & 0xFFFFFFFF, _text(pid, arguments[position + 1])
    else:
        directory, path = _AT_FDCWD, _text(pid, arguments[_TAKES_A_PATH_ALONE[name]])
    if path.startswith("/proc/self/fd/"):
        path = os.path.realpath(path.replace("self", str(pid), 1))
    if not path.startswith("/"):
        at = "cwd" if directory == _AT_FDCWD else f"fd/{directory}"
        path = f"{os.readlink(f'/proc/{pid}/{at}')}/{path}"
    return path


def _text(pid: int, address: int) -> str:
    size = 4096 - address % 4096  # the next page may not be there
    data = _memory(pid, address, size)
    if b"\0" not in data:
        data += _memory(pid, address + size, 4096)
    return os.fsdecode(data.partition(b"\0")[0])


def _memory(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def _program() -> bytes:
    """Return the filter: what is named above goes to the listener, all else goes on."""
    numbers = sorted({number for name in _NAMES if (number := _number(name)) >= 0})
    rows = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 0, len(numbers) + 1, _ARCHITECTURES[os.uname().machine]), (_LOAD, 0, 0, 0)]
    rows += [(_JUMP_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    rows += [(_RETURN, 0, 0, seccomp.SECCOMP_RET_ALLOW), (_RETURN, 0, 0, RET_USER_NOTIF)]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def main(path: str, *program: str) -> None:
    """Install the filter, send its listener to ``path`` and become the program."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    listener = seccomp.install(_program(), seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER)
    connection.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
    connection.recv(1)
    connection.close()
    os.close(listener)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
