"""FUSE filesystems of the tests, by the protocol of linux/fuse.h, version 7.31: a directory with one file in it, ``file``.

:class:`SilentFilesystem` may stop answering, so that who reads it sleeps without being interruptible (state D).
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

READ, WRITE, FSYNC = 15, 16, 20  # what a subclass may want to know of
_LOOKUP, _FORGET, _GETATTR, _OPEN, _STATFS, _INIT, _OPENDIR = 1, 2, 3, 14, 17, 26, 27
_INTERRUPT, _BATCH_FORGET = 36, 42
_IN = struct.Struct("=IIQQIIIHH")  # fuse_in_header
_OUT = struct.Struct("=IiQ")  # fuse_out_header
_ATTRIBUTES = struct.Struct("=6Q10I")  # fuse_attr
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22  # FUSE_INIT flags
_MOST = 1 << 20  # bytes of one read or write
_VALID = 3600  # seconds for which the kernel need not ask again
_ROOT, _FILE = 1, 2
_MNT_FORCE = 1  # linux/fs.h


class Filesystem:
    """Mounted at ``path`` until :meth:`close`; its file has ``size`` bytes. Subclasses say what is in it."""

    def __init__(self, path: Path, size: int) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self._size = size
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        mount.mount("boxship-test", str(path), "fuse", mount.MS_NOSUID | mount.MS_NODEV, options)
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

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

    def answer(self, operation: int, node: int, rest: bytes) -> bytes | int | None:
        """Return the body of an answer, an error number, or None for no answer at all."""
        if operation == _INIT:
            flags = _BIG_WRITES | _MAX_PAGES
            return struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, flags, 12, 9, _MOST, 1, _MOST // 4096, 0, 0)
        if operation == _GETATTR:
            return struct.pack("=QII", 0, 0, 0) + self._attributes(node)
        if operation == _LOOKUP:
            if node != _ROOT or rest.split(b"\0")[0] != b"file":
                return errno.ENOENT
            return struct.pack("=QQQQII", _FILE, 0, _VALID, _VALID, 0, 0) + self._attributes(_FILE)
        if operation == _STATFS:
            return struct.pack("=5Q4I24x", 0, 0, 0, 2, 0, 4096, 255, 4096, 0)
        if operation in (_OPEN, _OPENDIR):
            return struct.pack("=QII", 0, 0, 0)
        return errno.ENOSYS

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, _MOST + 65536)
            except OSError as exc:
                if exc.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, operation, unique, node, *_ = _IN.unpack_from(request)
            if operation in (_FORGET, _BATCH_FORGET, _INTERRUPT):
                continue
            body = self.answer(operation, node, request[_IN.size :])
            if body is None:
                continue
            failure = 0 if isinstance(body, bytes) else -body
            data = body if isinstance(body, bytes) else b""
            with contextlib.suppress(OSError):  # who asked has gone
                os.write(self._fd, _OUT.pack(_OUT.size + len(data), failure, unique) + data)

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o644
        return _ATTRIBUTES.pack(node, self._size, self._size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class SilentFilesystem(Filesystem):
    """Opening its file is answered, reading it never is; after :meth:`fall_silent` nothing is."""

    def __init__(self, path: Path) -> None:
        self.silent = False
        self.unanswered = threading.Event()  # set when somebody waits for what will not come
        super().__init__(path, 1 << 20)

    def fall_silent(self) -> None:
        """Answer nothing any more; what the kernel remembers of names and attributes is asked for again."""
        self.silent = True

    def answer(self, operation: int, node: int, rest: bytes) -> bytes | int | None:
        if operation == READ or (self.silent and operation != _INIT):
            self.unanswered.set()
            return None
        return super().answer(operation, node, rest)
