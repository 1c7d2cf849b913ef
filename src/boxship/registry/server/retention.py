"""Which tags and manifests a repository's rules let go. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import msgspec

from boxship.registry.server.repositories import Tag

_DAY_NS = 24 * 3600 * 1_000_000_000


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tags that a matching repository keeps: those that any of its conditions names. Others go."""

    repositories: list[str]  # patterns as in a shell; the first rule that matches a repository counts
    latest: int = 0  # the newest ones
    days: int = 0  # those set in the last days
    matching: str = ""  # regular expression for whole tag names

    def __post_init__(self) -> None:
        if self.latest < 0 or self.days < 0:
            raise ValueError("retention: negative number")
        if not (self.latest or self.days or self.matching):
            raise ValueError("retention: a rule without a condition would remove every tag")
        try:
            re.compile(self.matching)
        except re.error as exc:
            raise ValueError(f"retention: matching: {exc}") from exc


def rule_for(rules: Sequence[Rule], repository: str) -> Rule | None:
    """Return the rule that counts for a repository."""
    for rule in rules:
        if any(fnmatch.fnmatchcase(repository, pattern) for pattern in rule.repositories):
            return rule
    return None


def expired(tags: Sequence[Tag], rule: Rule, now_ns: int) -> list[str]:
    """Return the names of the tags that go."""
    newest = sorted(tags, key=lambda tag: (-tag.updated_ns, tag.name))
    kept = {tag.name for tag in newest[: rule.latest]}
    if rule.days:
        kept |= {tag.name for tag in tags if now_ns - tag.updated_ns < rule.days * _DAY_NS}
    if rule.matching:
        kept |= {tag.name for tag in tags if re.fullmatch(rule.matching, tag.name)}
    return [tag.name for tag in tags if tag.name not in kept]
