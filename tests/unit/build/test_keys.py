"""What a result's key depends on, and how a miss is explained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.build.caching import keys
from boxship.build.caching.cache import Cache, Record
from boxship.build.caching.keys import FILES, Key
from boxship.build.graph import Copy, Mount, Run
from boxship.store import Store

RUN = Run(args=("/bin/sh", "-c", "make"), env=("A=1", "HTTP_PROXY=x"), uncounted_env=("HTTP_PROXY",))


def _key(run: Run = RUN, base: str = "sha256:base", platform: str = "linux/amd64") -> Key:
    return keys.key(run, base, platform)


@pytest.mark.parametrize(
    "change",
    [
        {"args": ("/bin/sh", "-c", "make all")},
        {"env": ("A=2", "HTTP_PROXY=x")},
        {"env": ("A=1", "B=1", "HTTP_PROXY=x")},
        {"cwd": "/work"},
        {"user": "app"},
        {"network": "none"},
        {"mounts": (Mount(type="cache", target="/c"),)},
    ],
)
def test_every_input_of_a_program_counts(change: dict[str, object]) -> None:
    assert _key(msgspec.structs.replace(RUN, **change)).digest != _key().digest


def test_base_and_platform_count_and_proxies_do_not() -> None:
    assert _key(base="sha256:other").digest != _key().digest
    assert _key(platform="linux/arm64").digest != _key().digest
    assert _key(msgspec.structs.replace(RUN, env=("A=1", "HTTP_PROXY=y"))).digest == _key().digest


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_words_are_never_joined(first: list[str], second: list[str]) -> None:
    same = _key(Run(args=tuple(first))).digest == _key(Run(args=tuple(second))).digest
    assert same == (first == second)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    store = Store(str(tmp_path / "db"))
    yield Cache(store)
    store.close()


def _kept(cache: Cache, key: Key, description: str = "[1/2] RUN make") -> None:
    record = Record(
        subject=key.subject, inputs=key.inputs, layers=(), added=True, created_ns=1, description=description
    )
    cache.keep([(key, record)], [])


def test_a_record_is_found_by_its_key_and_again_by_the_next_daemon(cache: Cache, tmp_path: Path) -> None:
    _kept(cache, _key())

    assert cache.find(_key()) is not None
    assert cache.find(_key(base="sha256:other")) is None
    again = Store(str(tmp_path / "db"))
    assert Cache(again).find(_key()) == cache.find(_key())
    again.close()


def test_a_miss_names_the_input_that_changed(cache: Cache) -> None:
    assert cache.explain(_key()) == "nothing was built on this base before"
    _kept(cache, _key())

    assert cache.explain(_key(base="sha256:other")) == "what is below changed"
    other = _key(msgspec.structs.replace(RUN, args=("make",)))
    assert cache.explain(other) == "the instruction is new here; before there was: [1/2] RUN make"


def test_a_miss_of_a_copy_names_the_files(cache: Cache) -> None:
    copy = Copy(sources=("/",), target="/app/")

    def key(**files: str) -> Key:
        return keys.key(copy, "sha256:base", "", contents={FILES: str(files)}, files=files)

    _kept(cache, key(a="1", b="1", c="1"))

    assert cache.explain(key(a="2", b="1", d="1")) == "d is new, c is gone, a changed"


def test_a_forgotten_record_gives_its_layers_back(cache: Cache) -> None:
    key = _key()
    record = Record(subject=key.subject, inputs=key.inputs, layers=("sha256:1", "sha256:2"), added=True, created_ns=1)
    cache.keep([(key, record)], [])

    assert cache.forget([key.digest]) == {"sha256:1", "sha256:2"}
    assert cache.find(key) is None
