"""Replies that are kept, and for how long."""

from __future__ import annotations

import struct

from boxship.nameserver.cache import LONGEST_NEGATIVE, Cache
from boxship.wire import dns


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def query(name: str, id: int = 1, *, checking: bool = True) -> dns.Query:
    flags = 0x0100 if checking else 0x0110
    return dns.Query(struct.pack("!HHHHHH", id, flags, 1, 0, 0, 0) + dns.write_name(name) + b"\0\1\0\1")


def reply(asked: dns.Query, ttl: int = 60, count: int = 1) -> bytes:
    return dns.answer(
        asked, dns.NOERROR, [dns.Record(dns.A, bytes([10, 0, n >> 8, n & 255]), ttl) for n in range(count)]
    )


def test_a_reply_is_given_with_the_time_that_is_left() -> None:
    clock = Clock()
    cache = Cache(now=clock)
    cache.keep("s", query("a"), reply(query("a"), ttl=60))
    clock.now += 45
    kept = cache.get("s", query("a", id=99), dns.LIMIT)
    assert kept is not None
    assert kept[:2] == b"\0\x63"
    assert kept[-10:-6] == (15).to_bytes(4, "big")
    clock.now += 15
    assert cache.get("s", query("a"), dns.LIMIT) is None
    assert len(cache) == 0


def test_replies_are_for_one_scope_and_one_kind_of_query() -> None:
    cache = Cache(now=Clock())
    cache.keep("s", query("a"), reply(query("a")))
    assert cache.get("t", query("a"), dns.LIMIT) is None
    assert cache.get("s", query("a", checking=False), dns.LIMIT) is None
    assert cache.get("s", query("A"), dns.LIMIT) is not None
    cache.forget("s")
    assert cache.get("s", query("a"), dns.LIMIT) is None


def test_what_may_not_be_kept_is_not() -> None:
    cache = Cache(now=Clock())
    asked = query("a")
    cache.keep("s", asked, reply(asked, ttl=0))
    cache.keep("s", asked, dns.answer(asked, dns.NOERROR, [dns.Record(dns.A, b"abcd", 9)] * 60, limit=512))
    cache.keep("s", asked, dns.answer(asked, dns.SERVFAIL))
    cache.keep("s", asked, reply(asked)[:-1])
    cache.keep("s", asked, reply(asked, count=300))
    assert len(cache) == 0


def test_that_there_is_nothing_is_kept_for_a_short_time_only() -> None:
    clock = Clock()
    cache = Cache(now=clock)
    asked = query("a")
    soa = b"\xc0\x0c" + struct.pack("!HHIH", dns.SOA, 1, 3600, 22) + bytes(2) + struct.pack("!IIIII", 1, 2, 3, 4, 3600)
    cache.keep("s", asked, struct.pack("!HHHHHH", 1, 0x8183, 1, 0, 1, 0) + asked.question + soa)
    clock.now += LONGEST_NEGATIVE - 1
    assert cache.get("s", asked, dns.LIMIT) is not None
    clock.now += 1
    assert cache.get("s", asked, dns.LIMIT) is None


def test_a_reply_too_long_for_a_client_is_asked_for_again() -> None:
    cache = Cache(now=Clock())
    cache.keep("s", query("a"), reply(query("a"), count=50))
    assert cache.get("s", query("a"), 512) is None
    assert cache.get("s", query("a"), dns.LIMIT) is not None


def test_the_oldest_goes_when_it_is_full() -> None:
    cache = Cache(entries=2, now=Clock())
    for name in ("a", "b", "c"):
        cache.keep("s", query(name), reply(query(name)))
    assert [cache.get("s", query(name), dns.LIMIT) is None for name in ("a", "b", "c")] == [True, False, False]
