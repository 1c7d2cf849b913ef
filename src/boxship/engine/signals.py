"""Signal names and numbers as Docker's clients write them."""

from __future__ import annotations

import signal

from boxship.base.errors import InvalidInput

_RTMIN, _RTMAX = 34, 64  # as the kernel's users see them; glibc keeps 32 and 33


def parse_signal(text: str) -> int:
    """Return the number of ``KILL``, ``SIGKILL``, ``9`` or ``RTMIN+3``; raise InvalidInput in Docker's words."""
    if text.isdecimal():
        number = int(text)
        if 0 < number <= _RTMAX:
            return number
        raise InvalidInput(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    base, plus, offset = name.replace("-", "+-").partition("+")
    if base in ("RTMIN", "RTMAX") and (not plus or offset.lstrip("-").isdecimal()):
        number = (_RTMIN if base == "RTMIN" else _RTMAX) + int(offset or 0)
        if _RTMIN <= number <= _RTMAX:
            return number
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        raise InvalidInput(f"invalid signal: {text}") from None
