"""Replies of other servers, kept as long as their TTLs allow, within bounds of number and size."""

from __future__ import annotations

import time

from boxship.wire import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 3600  # seconds a reply is kept, whatever it says
LONGEST_NEGATIVE = 30  # a name that does not exist yet may be what a container waits for
ENTRIES = 4096
LARGEST = 4096  # bytes of one reply


class _Entry:
    __slots__ = ("expires", "kept", "offsets", "reply")

    def __init__(self, reply: bytes, offsets: tuple[int, ...], kept: float, expires: float) -> None:
        self.reply = reply
        self.offsets = offsets
        self.kept = kept
        self.expires = expires


class Cache:
    """Replies by who asked whom (``scope``) and what; when it is full, the oldest goes."""

    def __init__(self, *, entries: int = ENTRIES, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = entries
        self._now = now
        self._entries: dict[tuple[str, bytes], _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, scope: str, query: dns.Query, limit: int) -> bytes | None:
        """Return the answer to a query of at most ``limit`` bytes, with the TTLs that are left."""
        key = (scope, query.cache_key)
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._now()
        if now >= entry.expires:
            del self._entries[key]
            return None
        if len(entry.reply) > limit:
            return None
        return dns.for_client(query, dns.aged(entry.reply, entry.offsets, int(now - entry.kept)))

    def keep(self, scope: str, query: dns.Query, reply: bytes) -> None:
        """Remember a reply to ``query`` if it may be."""
        if len(reply) > LARGEST or dns.is_truncated(reply):
            return
        try:
            lifetime = dns.lifetime(reply)
        except dns.FormatError:
            return
        positive = dns.code_of(reply) == dns.NOERROR and reply[6:8] != b"\0\0"
        seconds = min(lifetime.seconds, LONGEST if positive else LONGEST_NEGATIVE)
        if seconds <= 0:
            return
        key = (scope, query.cache_key)
        self._entries.pop(key, None)
        while len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        now = self._now()
        self._entries[key] = _Entry(reply, lifetime.offsets, now, now + seconds)

    def forget(self, scope: str) -> None:
        """Drop what was kept for one scope."""
        for key in [key for key in self._entries if key[0] == scope]:
            del self._entries[key]
