from __future__ import annotations

import pytest

from boxship.registry.server.repositories import Tag
from boxship.registry.server.retention import Rule as Retention
from boxship.registry.server.retention import expired, rule_for
from boxship.registry.server.rules import ACTIONS, Rule, Rules

DAY = 24 * 3600 * 10**9
RULES = Rules(
    [
        Rule(["public/*"], ["anonymous"], ["pull"]),
        Rule(["team/*"], ["@devs"], ["pull", "push"]),
        Rule(["*"], ["root"], ["*"]),
        Rule(["inner"], ["*"], ["pull"]),
    ],
    {"devs": ["ada", "bob"]},
    open=False,
)


@pytest.mark.parametrize(
    ("user", "repository", "allowed"),
    [
        ("", "public/a", {"pull"}),
        ("", "team/a", set()),
        ("", "inner", set()),
        ("ada", "team/a", {"pull", "push"}),
        ("ada", "public/a", {"pull"}),
        ("ada", "inner", {"pull"}),
        ("eve", "team/a", set()),
        ("root", "anything/at/all", {"pull", "push", "delete"}),
    ],
)
def test_rules_add_up(user: str, repository: str, allowed: set[str]) -> None:
    assert RULES.allowed(user, repository) == allowed


def test_without_rules_being_signed_in_is_enough() -> None:
    guarded, open = Rules([], {}, open=False), Rules([], {}, open=True)
    assert (guarded.allowed("", "a"), guarded.allowed("ada", "a"), open.allowed("", "a")) == (set(), ACTIONS, ACTIONS)


TAGS = [Tag(name, "sha256:x", age) for name, age in (("a", 1), ("b", 2), ("v1", 3), ("c", 50 * DAY), ("d", 60 * DAY))]


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        (Retention(repositories=["*"], latest=2), ["a", "b", "v1"]),
        (Retention(repositories=["*"], days=15), ["a", "b", "v1", "c"]),
        (Retention(repositories=["*"], matching="v.*"), ["a", "b", "c", "d"]),
        (Retention(repositories=["*"], latest=1, matching="[ab]"), ["v1", "c"]),
        (Retention(repositories=["*"], latest=9), []),
    ],
)
def test_retention_keeps_what_any_condition_names(rule: Retention, gone: list[str]) -> None:
    assert expired(TAGS, rule, 70 * DAY) == gone


def test_the_first_matching_retention_counts() -> None:
    rules = [Retention(repositories=["a/*"], latest=1), Retention(repositories=["*"], latest=2)]
    assert rule_for(rules, "a/b") is rules[0]
    assert rule_for(rules, "b") is rules[1]
    assert rule_for(rules[:1], "b") is None


@pytest.mark.parametrize("fields", [{}, {"latest": -1}, {"matching": "("}])
def test_a_retention_that_means_nothing_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="retention"):
        Retention(repositories=["*"], **fields)  # type: ignore[arg-type]
