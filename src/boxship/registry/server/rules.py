"""Who may do what with which repositories. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PULL, PUSH, DELETE = "pull", "push", "delete"
ACTIONS = frozenset((PULL, PUSH, DELETE))
ANONYMOUS = ""


class Rule(NamedTuple):
    """One line of the configuration's ``access``."""

    repositories: Sequence[str]
    users: Sequence[str]
    actions: Sequence[str]


class Rules:
    """What the configuration grants. Without any rule everybody who is signed in may do everything, nobody else anything.

    ``open`` is a registry without users: everybody may do everything that the rules, if any, leave.
    """

    def __init__(self, rules: Sequence[Rule], groups: Mapping[str, Sequence[str]], *, open: bool) -> None:
        self._rules = rules
        self._groups = {user: {group for group, users in groups.items() if user in users} for user in _all(groups)}
        self._open = open

    def allowed(self, user: str, repository: str) -> frozenset[str]:
        """Return what ``user`` (ANONYMOUS: not signed in) may do with a repository."""
        if not self._rules:
            return ACTIONS if user or self._open else frozenset()
        names = {"anonymous"}
        if user:
            names |= {user, "*"} | {f"@{group}" for group in self._groups.get(user, ())}
        found: set[str] = set()
        for rule in self._rules:
            if names.isdisjoint(rule.users) or not any(fnmatch.fnmatchcase(repository, p) for p in rule.repositories):
                continue
            found |= ACTIONS if "*" in rule.actions else set(rule.actions)
        return frozenset(found)


def _all(groups: Mapping[str, Sequence[str]]) -> set[str]:
    return {user for users in groups.values() for user in users}
