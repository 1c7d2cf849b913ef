"""What a runtime returns for a process that it started."""


class Started:
    """A process that runs: its pid here, a pidfd or -1, and its terminal's master or -1; the caller owns both."""

    __slots__ = ("console", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int = -1, console: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console = console
