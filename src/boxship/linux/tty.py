"""Pseudo-terminals by descriptor: ioctl_tty(2)."""

import fcntl
import os
import struct
import termios

# asm-generic/ioctls.h
TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431


def unlock(master_fd: int) -> None:
    """Allow the terminal end of ``master_fd`` to be opened."""
    fcntl.ioctl(master_fd, TIOCSPTLCK, struct.pack("i", 0))


def open_peer(master_fd: int) -> int:
    """Return a close-on-exec descriptor of the terminal end of ``master_fd`` without walking any path. Linux 4.13."""
    return fcntl.ioctl(master_fd, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_controlling(fd: int) -> None:
    """Make ``fd`` the controlling terminal of the calling session leader."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def set_window_size(fd: int, height: int, width: int) -> None:
    """Set the terminal's size in characters; its foreground process group receives SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def window_size(fd: int) -> tuple[int, int]:
    """Return (height, width) in characters."""
    height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return height, width


def make_raw(fd: int) -> list[object]:
    """Put terminal ``fd`` in raw mode (cfmakeraw(3)); return the old attributes for :func:`restore`."""
    old = termios.tcgetattr(fd)
    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(fd)
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    cc[termios.VMIN] = 1
    cc[termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, cc])
    return old


def restore(fd: int, attributes: list[object]) -> None:
    """Give terminal ``fd`` the attributes that :func:`make_raw` returned."""
    termios.tcsetattr(fd, termios.TCSADRAIN, attributes)  # type: ignore[arg-type]  # the stub's union is wider than ours
