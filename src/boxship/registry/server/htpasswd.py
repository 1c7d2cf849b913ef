"""Users and passwords in a file of Apache's htpasswd with bcrypt hashes, the only kind that the reference registry takes.

A bcrypt check takes a tenth of a second by design. Passwords that were right are remembered for a minute as keyed digests,
and at most two checks run at once, so that guessing does not starve everybody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time

import bcrypt

from boxship.base.errors import InvalidInput

_REMEMBERED = 60.0  # seconds
_REMEMBERED_LIMIT = 10_000
_NOBODY = bcrypt.hashpw(os.urandom(16), bcrypt.gensalt(10))  # unknown users take as long as known ones


class Htpasswd:
    """The file at ``path``, read again when it changes. Raises InvalidInput for a file that is none, OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, bytes] = {}
        self._key = os.urandom(32)
        self._right: dict[bytes, float] = {}
        self._checks = asyncio.Semaphore(2)
        self._refresh()

    async def check(self, user: str, password: str) -> bool:
        """Return whether this is the user's password."""
        self._refresh()
        hashed = self._users.get(user)
        # bcrypt looks at 72 bytes; longer passwords are refused everywhere rather than cut.
        secret = password.encode("utf-8", "surrogateescape")
        text = b"\0".join((user.encode("utf-8", "surrogateescape"), hashed or b"", secret))
        mark = hmac.digest(self._key, text, hashlib.sha256)
        now = time.monotonic()
        if hashed is not None and self._right.get(mark, 0.0) > now:
            return True
        async with self._checks:
            right = len(secret) <= 72 and await asyncio.to_thread(bcrypt.checkpw, secret, hashed or _NOBODY)
        if not right or hashed is None:
            return False
        if len(self._right) >= _REMEMBERED_LIMIT:
            self._right.clear()
        self._right[mark] = now + _REMEMBERED
        return True

    def _refresh(self) -> None:
        info = os.stat(self._path)
        stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
        if stamp == self._stamp:
            return
        with open(self._path, encoding="utf-8") as file:
            self._users = read_users(file.read())
        self._stamp = stamp
        self._right.clear()


def read_users(text: str) -> dict[str, bytes]:
    """Return name and hash of the lines of an htpasswd file. Raises InvalidInput."""
    users = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        user, colon, hashed = line.partition(":")
        if not colon or not user:
            raise InvalidInput(f"htpasswd: line {number} is not user:hash")
        if is_reserved(user):
            raise InvalidInput(f"htpasswd: line {number}: {user!r} means something else in rules")
        if not hashed.startswith(("$2y$", "$2a$", "$2b$")):
            raise InvalidInput(f"htpasswd: line {number}: the hash of {user} is not bcrypt; make it with htpasswd -B")
        users[user] = hashed.encode("ascii", "replace")
    return users


def is_reserved(user: str) -> bool:
    """Return whether rules read this name as more than one user."""
    return user in ("*", "anonymous") or user.startswith("@")


def make_line(user: str, password: str) -> str:
    """Return a line for the file. Raises InvalidInput for what can't be one."""
    if not user or ":" in user or "\n" in user or is_reserved(user):
        raise InvalidInput(f"invalid user name {user!r}")
    secret = password.encode()
    if not 0 < len(secret) <= 72:
        raise InvalidInput("a password has 1 to 72 bytes")
    return f"{user}:{bcrypt.hashpw(secret, bcrypt.gensalt(10, b'2b')).decode()}"
