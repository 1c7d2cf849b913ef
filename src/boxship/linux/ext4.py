"""What ext4 does while it is mounted."""

from __future__ import annotations

import fcntl
import struct

EXT4_IOC_RESIZE_FS = 0x40086610  # fs/ext4/ext4.h
BLOCK_SIZE_BYTES = 4096


def grow(root_fd: int, size: int) -> None:
    """Let the file system of ``root_fd``, with blocks of 4 KiB, fill ``size`` bytes of its device. Raises OSError."""
    fcntl.ioctl(root_fd, EXT4_IOC_RESIZE_FS, struct.pack("=Q", size // BLOCK_SIZE_BYTES))
