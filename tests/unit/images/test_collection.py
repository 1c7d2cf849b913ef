"""Which images go by themselves, and which never do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from boxship.base.errors import InvalidInput
from boxship.images import collection
from boxship.images.collection import Candidate, Collector, Policy
from boxship.images.model import IMAGE, decode_image, encode


def image(id: str, *tags: str, fetchable: bool = True, named_ns: int = 0) -> Candidate:
    return Candidate(id, tags, tags, fetchable, named_ns)


def test_untagged_images_go_first_then_those_named_longest_ago() -> None:
    images = [image("new", "a:1", named_ns=3), image("old", "b:1", named_ns=2), image("untagged", named_ns=9)]
    assert [found.id for found in collection.order(images, ())] == ["untagged", "old", "new"]


def test_images_with_containers_and_images_made_here_never_go() -> None:
    assert collection.order([image("used", "a:1"), image("made", "b:1", fetchable=False)], {"used"}) == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"policy": "all"}, "unknown policy all"),
        ({"policy": "watermarks", "high": 50, "low": 60}, "low (60) must be above 0 and below high (50)"),
        ({"hihg": 50}, "hihg"),
        ({"high": "50"}, "Expected `int`"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as failed:
        collection.parse(document)
    assert said in str(failed.value)


def fetched(bench: Any) -> None:
    """Let all images look as if they came from a registry."""

    def change(transaction: Any) -> None:
        for id, document in transaction.list(IMAGE):
            transaction.put(
                IMAGE, id, encode(msgspec.structs.replace(decode_image(document), manifest="sha256:" + "0" * 64))
            )

    bench.store.write_now(change)


def collected(bench: Any, policy: Policy, levels: list[float]) -> list[str]:
    fullness: Iterator[float] = iter(levels)
    collector = Collector(bench.store, bench.service, policy=policy, in_use=set, fullness=lambda: next(fullness))
    return asyncio.run(collector.collect())


def test_a_full_disk_lets_images_go_until_it_is_at_the_low_mark(bench: Any, make_tar: Any) -> None:
    ids = [bench.import_(make_tar(**{f"file{n}": b"x" * 1000}), f"image{n}") for n in range(3)]
    fetched(bench)
    policy = Policy(policy="watermarks", high=80, low=60)
    assert collected(bench, policy, [79.0]) == []
    assert collected(bench, policy, [81.0, 70.0, 59.0]) == ids[:2]
    assert bench.names() == [["image2:latest"]]


@pytest.mark.parametrize("policy", ["off", "safe"])
def test_other_policies_keep_all_images(bench: Any, make_tar: Any, policy: str) -> None:
    bench.import_(make_tar(file=b"x"), "image")
    fetched(bench)
    assert collected(bench, Policy(policy=policy), []) == []
    assert bench.names() == [["image:latest"]]
