"""Files that are whole or absent: write beside, fsync, rename, fsync the directory."""

import os


def write(path: str, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file at ``path`` with ``data`` so that a reader sees the old or the new content, never a part.

    ``durable`` makes it survive a power cut too. A failure leaves the old file and nothing beside it. Raises OSError.
    """
    directory, name = os.path.split(path)
    dir_fd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_at(dir_fd, name, data, mode=mode, durable=durable)
    finally:
        os.close(dir_fd)


def write_at(dir_fd: int, name: str, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Do as :func:`write` does, for ``name`` in the directory open at ``dir_fd``."""
    temporary = f".{name}.{os.urandom(6).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        try:
            os.fchmod(fd, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=dir_fd)
        except FileNotFoundError:
            pass
        raise
    if durable:
        os.fsync(dir_fd)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def fsync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
