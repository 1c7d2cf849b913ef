"""Which chains of others keep packets away, from what nft lists of them."""

from __future__ import annotations

import json

import pytest

from boxship.linux.nftables import NftError
from boxship.networks.filtering.host_rules import Obstacle, judge, read

ACCEPT, DROP, JUMP = {"accept": None}, {"drop": None}, {"jump": {"target": "more"}}
TCP = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}}
ANSWERS = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
LOOPBACK = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}
LEGACY = {"xt": {"type": "target", "name": "REJECT"}}


@pytest.mark.parametrize(
    ("rules", "drop_policy", "expected"),
    [
        ([], False, None),
        ([[TCP, ACCEPT]], False, None),
        ([], True, (True, "policy drop, and no rule lets new packets through")),
        ([[ANSWERS, ACCEPT], [LOOPBACK, ACCEPT]], True, (True, "policy drop, and no rule lets new packets through")),
        ([[TCP, ACCEPT]], True, (False, "policy drop, but for what 1 rule may let through")),
        ([[TCP, DROP], [TCP, LEGACY]], False, (False, "2 rules may drop it")),
        ([[TCP, DROP]], False, (False, "1 rule may drop it")),
        ([[DROP]], False, (True, "a rule drops all, and no rule lets new packets through")),
        ([[TCP, ACCEPT], [DROP]], False, (False, "a rule drops all, but for what 1 rule may let through")),
        ([[JUMP]], True, (False, "policy drop, but for what 1 rule may let through")),
        ([[JUMP]], False, (False, "1 rule may drop it")),
    ],
)
def test_a_chain_is_judged_by_its_policy_and_rules(rules, drop_policy, expected):
    assert judge(rules, drop_policy=drop_policy, target=lambda name: [[TCP, ACCEPT], [TCP, DROP]]) == expected


def test_a_chain_that_jumps_to_itself_ends():
    assert judge([[JUMP]], drop_policy=False, target=lambda name: [[JUMP]]) is None


def test_chains_of_others_are_found_and_our_own_are_not():
    def chain(table, name, hook, policy="drop", family="inet"):
        place = {"family": family, "table": table, "name": name}
        return {"chain": {**place, "type": "filter", "hook": hook, "prio": 0, "policy": policy}}

    listed = [
        {"metainfo": {}},
        chain("boxship_x", "forward", "forward"),
        chain("ufw", "in", "input", family="ip"),
        chain("ufw", "out", "output"),
        chain("eth", "in", "input", family="bridge"),
        chain("gone", "in", "input", policy="accept"),
        {"chain": {"family": "inet", "table": "ufw", "name": "plain"}},
    ]

    def run_json(command):
        if command == "list chains":
            return json.dumps({"nftables": listed})
        if "gone" in command:
            raise NftError("Error: No such file or directory")
        return json.dumps({"nftables": [{"rule": {"expr": [ANSWERS, ACCEPT]}}]})

    reason = "policy drop, and no rule lets new packets through"
    found = read(run_json, ["boxship_x"])
    assert found == [Obstacle("ip", "ufw", "in", "input", True, reason)]
    assert str(found[0]) == f"table ip ufw, chain in (hook input): {reason}"
    assert found[0].concerns("ip") and not found[0].concerns("ip6")
