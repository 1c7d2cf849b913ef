"""Wall clock for people, monotonic clock for decisions, and the time format of Docker's documents."""

import time

ZERO = "0001-01-01T00:00:00Z"  # Docker's "never"


def now_ns() -> int:
    """Return the wall clock in nanoseconds since 1970."""
    return time.time_ns()


def rfc3339(time_ns: int) -> str:
    """Return ``time_ns`` as RFC 3339 in UTC with the fraction's trailing zeros cut, as Go prints it; 0 is "never"."""
    if time_ns == 0:
        return ZERO
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{stamp}.{digits}Z" if digits else f"{stamp}Z"


def rfc3339_fixed(time_ns: int) -> str:
    """Return ``time_ns`` as RFC 3339 in UTC with nine digits of fraction, the form of log lines."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"
