"""Names, signals, ids and updates."""

from __future__ import annotations

import random
import re

import pytest

from boxship.base.errors import Conflict, InvalidInput
from boxship.engine.container import ContainerIndex
from boxship.engine.model import NameInUse, check_name
from boxship.engine.names import random_name
from boxship.engine.observation.system import engine_id
from boxship.engine.reconfigure.resources import apply_update
from boxship.engine.signals import parse_signal
from boxship.spec.docker.container import HostConfig

SAME = random.Random(1)


@pytest.mark.row("RUN-12")
def test_random_names_are_adjective_and_surname_and_avoid_those_taken() -> None:
    source = random.Random(1)
    first = random_name((), source=source)
    assert re.fullmatch(r"[a-z]+_[a-z]+", first)
    assert random_name({first}, source=random.Random(1)) != first


def test_a_name_is_taken_while_its_container_is_being_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "Random", lambda: SAME)
    SAME.seed(1)
    index = ContainerIndex()
    with index.reserved(None, "1" * 64) as first:
        SAME.seed(1)  # the next pick is the same
        with index.reserved(None, "2" * 64) as second:
            assert second != first
        with pytest.raises(NameInUse, match="1" * 64), index.reserved(first, "3" * 64):
            pass
    with index.reserved(first, "3" * 64) as again:
        assert again == first


@pytest.mark.row("RUN-17")
@pytest.mark.parametrize(
    ("text", "number"), [("KILL", 9), ("SIGKILL", 9), ("9", 9), ("hup", 1), ("RTMIN+3", 37), ("RTMAX-1", 63)]
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["BOGUS", "0", "65", "RTMIN+99", ""])
def test_unknown_signals_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid signal"):
        parse_signal(text)


@pytest.mark.row("RUN-11")
@pytest.mark.parametrize("name", ["a b", "-x", "x", "ü" * 3, "a/b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape("only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")):
        check_name(name)


def test_the_engine_id_has_twelve_groups() -> None:
    assert re.fullmatch(r"([A-Z2-7]{4}:){11}[A-Z2-7]{4}", engine_id("x"))


def test_update_changes_only_what_is_set() -> None:
    host = apply_update(HostConfig(memory=10**8, cpu_shares=512), {"CpuShares": 256, "Memory": 0})
    assert (host.memory, host.cpu_shares) == (10**8, 256)


def test_update_refuses_conflicts() -> None:
    with pytest.raises(Conflict, match="CPU Quota cannot be updated as NanoCPUs has already been set"):
        apply_update(HostConfig(nano_cpus=10**9), {"CpuQuota": 1000})
