"""Loop devices: a file as a block device (loop(4)), which goes with its last user."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

# linux/loop.h
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LOOP_SET_CAPACITY = 0x4C07
LO_FLAGS_AUTOCLEAR = 4
_NAME = 64
# fd, block size, then loop_info64: device, inode, rdevice, offset, sizelimit, number, encryption (2), flags, names
_CONFIG = struct.Struct(f"=II5Q4I{_NAME}s{_NAME}s32s2Q8Q")
_TRIES = 64
_CONTROL = "/dev/loop-control"


def attach(file_fd: int) -> tuple[int, str]:
    """Return a descriptor and the path of a new block device on an open file.

    The device is gone when nobody has it open or mounted any more, whoever is killed meanwhile. Linux 5.8. Raises OSError.
    """
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                zeros = [0] * 8
                names = (b"", b"", b"")
                config = _CONFIG.pack(file_fd, 0, *zeros[:5], 0, 0, 0, LO_FLAGS_AUTOCLEAR, *names, 0, 0, *zeros)
                fcntl.ioctl(device, LOOP_CONFIGURE, config)
            except OSError as exc:
                os.close(device)
                if exc.errno != errno.EBUSY:  # somebody else was quicker
                    raise
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no free loop device", _CONTROL)


def read_size_again(device: int) -> None:
    """Let an attached device have the size that its file has now. Raises OSError."""
    fcntl.ioctl(device, LOOP_SET_CAPACITY)
