r"""Detach keys: the text a user writes ("ctrl-p,ctrl-q") and the search for them in what the user types.

Docker's rules (its ``term`` package): keys are single characters, ``ctrl-`` with a letter or one of ``@[\]^_``, or
``DEL``, separated by commas. They count only on a terminal.
"""

from __future__ import annotations

DEFAULT = b"\x10\x11"  # ctrl-p, ctrl-q

_NAMES = {f"ctrl-{chr(code + 0x60) if 1 <= code <= 26 else chr(code + 0x40)}": code for code in range(32)}
_NAMES["DEL"] = 127


class UnknownKeyError(ValueError):
    """A word that names no key, in Docker's text."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Unknown character: '{key}'")
        self.key = key


def parse(text: str) -> bytes:
    """Return the bytes that the keys send, :data:`DEFAULT` for an empty text. Raises UnknownKeyError."""
    if not text:
        return DEFAULT
    codes = bytearray()
    for key in text.split(","):
        if key in _NAMES:
            codes.append(_NAMES[key])
        elif len(key) == 1 and key.isascii():
            codes.append(ord(key))
        else:
            raise UnknownKeyError(key)
    return bytes(codes)


class Matcher:
    """Looks for the detach keys in typed bytes and passes on all that is not part of them.

    A beginning of the sequence is held back until the next byte decides. As in Docker the byte that breaks a sequence
    does not begin a new one: ctrl-p ctrl-p ctrl-q passes.
    """

    __slots__ = ("_keys", "_matched")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what to pass on of ``data`` and whether the sequence is complete; what follows it is dropped."""
        keys = self._keys
        if not keys or (not self._matched and keys[:1] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    self._matched = 0
                    return bytes(passed), True
            else:
                passed += keys[: self._matched]
                passed.append(byte)
                self._matched = 0
        return bytes(passed), False

    def finish(self) -> bytes:
        """Say that no more is typed; return what was held back."""
        held = self._keys[: self._matched]
        self._matched = 0
        return held
