"""What a runtime returns for a process that it started."""


class Started:
    """A process that runs; the caller owns its descriptors, each of which may be -1.

    ``pid`` as it is numbered here, ``pidfd``, ``console``: its terminal's master, ``seccomp``: the program that its
    container's processes run under. ``mount_namespace``: the inode of one that it does not share with the container, or 0.
    """

    __slots__ = ("console", "mount_namespace", "pid", "pidfd", "seccomp")

    def __init__(
        self, pid: int, pidfd: int = -1, console: int = -1, seccomp: int = -1, mount_namespace: int = 0
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console = console
        self.seccomp = seccomp
        self.mount_namespace = mount_namespace
