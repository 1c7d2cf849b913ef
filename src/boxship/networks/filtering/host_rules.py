"""Chains of others that may keep packets from containers, read from nft's JSON listing.

A chain that drops by its policy, or has a rule that drops, is found and named; whether a certain packet meets its rules
is not computed, except that answers and loopback traffic, which nearly every firewall accepts, don't count as an opening.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from boxship.linux.nftables import NftError

HOOKS = ("input", "forward")
_MOST_CHAINS = 200  # that are looked at; a listing takes about 0.2 ms
_DROPS = ("drop", "reject")
_PASSES = ("accept", "queue", "vmap")
_DESCENDS = ("jump", "goto")

Rule = list[dict[str, Any]]
"""The expressions of a rule as nft's JSON has them."""


class Obstacle(NamedTuple):
    """A chain at a hook that drops new packets: all of them (``certain``), or some."""

    family: str  # ip, ip6 or inet
    table: str
    chain: str
    hook: str
    certain: bool
    reason: str

    def concerns(self, family: str) -> bool:
        """Tell whether packets of ``ip`` or ``ip6`` meet it."""
        return self.family in (family, "inet")

    def __str__(self) -> str:
        return f"table {self.family} {self.table}, chain {self.chain} (hook {self.hook}): {self.reason}"


def read(run_json: Callable[[str], str], own: Iterable[str]) -> list[Obstacle]:
    """Return the chains of input and forward that drop, apart from those in the tables ``own``.

    ``run_json`` carries out a listing command and raises NftError.
    """
    own = set(own)
    found: list[Obstacle] = []
    looked_at: dict[tuple[str, str, str], list[Rule]] = {}

    def rules_of(family: str, table: str, chain: str) -> list[Rule]:
        key = (family, table, chain)
        if key not in looked_at:
            if len(looked_at) >= _MOST_CHAINS:
                return []
            looked_at[key] = []  # a chain that leads to itself ends here
            looked_at[key] = _rules(run_json, f"list chain {family} {table} {chain}")
        return looked_at[key]

    for item in _listing(run_json, "list chains"):
        chain = item.get("chain", {})
        where = (chain.get("family", ""), chain.get("table", ""), chain.get("name", ""))
        if chain.get("hook") not in HOOKS or chain.get("type") != "filter" or where[1] in own:
            continue
        if where[0] not in ("ip", "ip6", "inet"):
            continue
        obstacle = judge(
            rules_of(*where),
            drop_policy=chain.get("policy") == "drop",
            target=lambda name, where=where: rules_of(where[0], where[1], name),  # type: ignore[misc]
        )
        if obstacle is not None:
            found.append(Obstacle(*where, chain["hook"], *obstacle))
    return found


def judge(
    rules: Iterable[Rule], *, drop_policy: bool, target: Callable[[str], Iterable[Rule]]
) -> tuple[bool, str] | None:
    """Return whether a base chain surely drops new packets, and why; None where nothing in it drops.

    ``target`` returns the rules of a chain that is jumped to.
    """
    openings = drops = 0
    for rule in filter(_for_new_packets, rules):
        verdict = _verdict(rule, target, depth=8)
        if verdict == "drop" and not any("match" in expression for expression in rule):
            return (openings == 0, "a rule drops all" + _unless(openings))
        openings += verdict in ("accept", "both")
        drops += verdict in ("drop", "both")
    if drop_policy:
        return (openings == 0, "policy drop" + _unless(openings))
    return (False, f"{drops} rule{'s' if drops > 1 else ''} may drop it") if drops else None


def _unless(openings: int) -> str:
    if openings == 0:
        return ", and no rule lets new packets through"
    return f", but for what {openings} rule{'s' if openings > 1 else ''} may let through"


def _verdict(rule: Rule, target: Callable[[str], Iterable[Rule]], *, depth: int) -> str:
    """Return accept, drop, both (by the rules of a chain it jumps to), or nothing."""
    words = {word for expression in rule for word in expression}
    if any(word in words for word in _DROPS) or _xt(rule) in ("DROP", "REJECT"):
        return "drop"
    found = {"accept"} if any(word in words for word in _PASSES) else set()
    for expression in rule:
        for word in _DESCENDS:
            if word in expression and depth:
                below = filter(_for_new_packets, target(expression[word]["target"]))
                found |= {_verdict(inner, target, depth=depth - 1) for inner in below}
    found.discard("")
    return found.pop() if len(found) == 1 else "both" if found else ""


def _for_new_packets(rule: Rule) -> bool:
    """Tell whether a rule may concern the first packet of a connection from elsewhere."""
    for expression in rule:
        match = expression.get("match")
        if not isinstance(match, dict) or match.get("op") not in ("==", "in"):
            continue
        left, right = match.get("left"), match.get("right")
        if left == {"ct": {"key": "state"}} and "new" not in json.dumps(right):
            return False
        if left == {"meta": {"key": "iifname"}} and right == "lo":
            return False
    return True


def _xt(rule: Rule) -> str:
    return next((str(expression["xt"].get("name", "")) for expression in rule if expression.get("xt")), "")


def _rules(run_json: Callable[[str], str], command: str) -> list[Rule]:
    return [item["rule"].get("expr", []) for item in _listing(run_json, command) if "rule" in item]


def _listing(run_json: Callable[[str], str], command: str) -> list[dict[str, Any]]:
    try:
        listed: list[dict[str, Any]] = json.loads(run_json(command))["nftables"]
    except (NftError, ValueError, KeyError):  # gone since, or something that this version of nft can't say in JSON
        return []
    return listed
