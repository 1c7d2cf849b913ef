"""A file that only takes up space, freed when the disk is full so that deleting things still works."""

import os

SIZE = 1024 * 1024


class Reserve:
    """One mebibyte at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._filled = False
        self.fill()

    def fill(self) -> None:
        """Take the space if it is not taken and there is enough; having none is no error."""
        if self._filled:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(fd, 0, SIZE)
            self._filled = True
        except OSError:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def release(self) -> bool:
        """Free the space and return whether there was any."""
        if not self._filled:
            return False
        self._filled = False
        try:
            os.truncate(self._path, 0)
        except OSError:
            return False
        return True
