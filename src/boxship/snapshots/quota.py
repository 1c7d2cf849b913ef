"""The bound of a snapshot's size: a project quota on its directory.

The project's number is kept nowhere but in the directory itself.
"""

import errno
import os
import tempfile

from boxship.base.errors import InvalidInput
from boxship.linux import project_quota
from boxship.snapshots import tree

_UNSUPPORTED = frozenset(
    (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESRCH, errno.ENOTBLK, errno.EPERM)
)


class QuotaUnsupported(InvalidInput):
    """The file system of the data root has no project quotas, or was mounted without them."""

    def __init__(self) -> None:
        super().__init__("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")


def check(root: str) -> None:
    """Raise QuotaUnsupported where directories below ``root`` can have no bound."""
    with tempfile.TemporaryDirectory(dir=root, prefix="quota-") as path:
        limit(path, 1 << 30)
        lift(path)


def limit(path: str, size: int) -> None:
    """Let what will be made in the empty directory take ``size`` bytes. Raises QuotaUnsupported, OSError."""
    with tree.opened(tree.open_root(path)) as fd:
        try:
            number = project_quota.unused(fd)
            project_quota.set_limit(fd, number, size)
            project_quota.set_project(fd, number)
        except OSError as exc:
            if exc.errno in _UNSUPPORTED:
                raise QuotaUnsupported from exc
            raise


def lift(path: str) -> None:
    """Forget the bound of a directory that is about to be removed; without one nothing happens."""
    try:
        with tree.opened(tree.open_root(path)) as fd, tree.opened(tree.open_root(os.path.dirname(path))) as parent_fd:
            number = project_quota.project(fd)
            if number and number != project_quota.project(parent_fd):  # else somebody's, for all of the data root
                project_quota.set_limit(fd, number, 0)
    except FileNotFoundError:
        pass
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
