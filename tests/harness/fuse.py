"""A FUSE filesystem that may stop answering, so that who reads it sleeps without being interruptible (state D).

It has a directory with one file, ``file``. Opening is answered, reading the file never is; after :meth:`fall_silent` nothing
is. The protocol is that of linux/fuse.h, version 7.31.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import threading
from pathlib import Path

from boxship.linux import mount

_IN = struct.Struct("=IIQQIIIHH")  # fuse_in_header
_OUT = struct.Struct("=IiQ")  # fuse_out_header
_ATTRIBUTES = struct.Struct("=6Q10I")  # fuse_attr
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _INIT, _OPENDIR = 1, 2, 3, 14, 15, 17, 26, 27
_INTERRUPT, _BATCH_FORGET = 36, 42
_VALID = 3600  # seconds for which the kernel need not ask again
_ROOT, _FILE = 1, 2
_MNT_FORCE = 1  # linux/fs.h
_SIZE = 1 << 20


class SilentFilesystem:
    """Mounted at ``path`` until :meth:`close`, which lets everybody go who waits for it."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.silent = False
        self.unanswered = threading.Event()  # set when somebody waits for what will not come
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        mount.mount("silent", str(path), "fuse", mount.MS_NOSUID | mount.MS_NODEV, options)
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def fall_silent(self) -> None:
        """Answer nothing any more; what the kernel remembers of names and attributes is asked for again."""
        self.silent = True

    def close(self) -> None:
        """Unmount it; reads that wait fail."""
        mounted = True
        with contextlib.suppress(OSError):  # EBUSY: a container has it, too; what counts is that requests are aborted
            mount.umount2(str(self.path), _MNT_FORCE)
            mounted = False
        if mounted:
            mount.umount2(str(self.path), mount.MNT_DETACH)
        self._server.join(10)
        os.close(self._fd)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, 1 << 20)
            except OSError as exc:
                if exc.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, operation, unique, node, *_ = _IN.unpack_from(request)
            if operation in (_FORGET, _BATCH_FORGET, _INTERRUPT):
                continue
            if operation == _READ or (self.silent and operation != _INIT):
                self.unanswered.set()
                continue
            body = self._answer(operation, node, request[_IN.size :])
            failure = 0 if isinstance(body, bytes) else -body
            data = body if isinstance(body, bytes) else b""
            with contextlib.suppress(OSError):  # who asked has gone
                os.write(self._fd, _OUT.pack(_OUT.size + len(data), failure, unique) + data)

    def _answer(self, operation: int, node: int, rest: bytes) -> bytes | int:
        """Return the body of an answer, or an error number."""
        if operation == _INIT:
            return struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 1 << 17, 1, 32, 0, 0)
        if operation == _GETATTR:
            return struct.pack("=QII", 0, 0, 0) + _attributes(node)
        if operation == _LOOKUP:
            if node != _ROOT or rest.split(b"\0")[0] != b"file":
                return errno.ENOENT
            return struct.pack("=QQQQII", _FILE, 0, _VALID, _VALID, 0, 0) + _attributes(_FILE)
        if operation == _STATFS:
            return struct.pack("=5Q4I24x", 0, 0, 0, 2, 0, 4096, 255, 4096, 0)
        if operation in (_OPEN, _OPENDIR):
            return struct.pack("=QII", 0, 0, 0)
        return errno.ENOSYS


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o644
    return _ATTRIBUTES.pack(node, _SIZE, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
