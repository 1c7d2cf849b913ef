"""``boxship network explain``: what it says of ports and containers, and that it is so."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from harness.engine import Engine
from harness.waiting import until

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def clean(engine: Engine) -> Iterator[None]:
    yield
    for container in engine.api("GET", "/containers/json?all=1")[1]:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for network in engine.api("GET", "/networks?filters=%7B%22type%22%3A%5B%22custom%22%5D%7D")[1]:
        engine.api("DELETE", f"/networks/{network['Id']}")


def run(engine: Engine, name: str, *words: str) -> None:
    engine.docker("run", "-d", "--name", name, *words)


def explain(engine: Engine, target: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.boxship("network", "explain", "--json", target).stdout)
    return found


def reached(way: dict[str, Any]) -> dict[str, str]:
    return {row["Who"]: row["Reached"] for row in way["Reach"]}


@pytest.mark.row("NET-22")
def test_a_port_is_explained_with_its_rule_and_what_is_wrong_in_the_container(engine: Engine) -> None:
    engine.docker("network", "create", "front")
    engine.docker("network", "create", "--internal", "shut")
    server = ("busybox", "httpd", "-f", "-p", "80")
    run(engine, "web", "--network", "front", "-p", "8080:80", "-p", "127.0.0.1:8081:81", *server)
    until(lambda: not explain(engine, "8080")["Ways"][0]["Hints"], seconds=60)
    (way,) = explain(engine, "8080/tcp")["Ways"]
    assert reached(way) == {
        "the host": "yes",
        "loopback of the host": "yes",
        "the LAN": "yes",
        "containers of bridge": "yes",
        "containers of front": "yes",
        "containers of shut": "no",
    }
    table = engine.namespace.run("nft", "list", "tables").stdout.split()[2]
    assert f"table ip {table}, map published-any: tcp . 8080" in way["Reach"][0]["Reason"]
    assert "tcp . 8080 : " in engine.namespace.run("nft", "list", "map", "ip", table, "published-any").stdout
    (way,) = explain(engine, "8081")["Ways"]
    assert (reached(way)["loopback of the host"], reached(way)["the LAN"]) == ("yes", "no")
    assert way["Hints"] == ["nothing in the container listens on 81/tcp"]
    shown = engine.boxship("network", "explain", "web").stdout
    assert "0.0.0.0:8080/tcp leads to web, " in shown and "network front" in shown
    engine.docker("exec", "-d", "web", "httpd", "-f", "-p", "127.0.0.1:81")
    until(lambda: "listens on 127.0.0.1 only; it has to listen on 0.0.0.0" in str(explain(engine, "8081")), seconds=60)


def test_a_host_that_drops_is_named_with_table_and_chain(engine: Engine) -> None:
    run(engine, "web", "-p", "8080:80", "busybox", "sleep", "1000")
    rule = "chain guard { type filter hook forward priority 0; policy drop; ct state established accept; };"
    engine.namespace.run("nft", f"table inet wall {{ {rule} }};")
    try:
        lan = next(row for row in explain(engine, "8080")["Ways"][0]["Reach"] if row["Who"] == "the LAN")
    finally:
        engine.namespace.run("nft", "delete", "table", "inet", "wall")
    assert lan["Reached"] == "no"
    assert "firewall of the host: table inet wall, chain guard (hook forward): policy drop" in lan["Reason"]
    assert reached(explain(engine, "8080")["Ways"][0])["the LAN"] == "yes"


def test_what_nobody_reaches_is_said_with_the_reason(engine: Engine) -> None:
    engine.docker("create", "--name", "idle", "-p", "8090:80", "busybox")
    run(engine, "alone", "--network", "none", "busybox", "sleep", "1000")
    run(engine, "wide", "--network", "host", "busybox", "sleep", "1000")
    run(engine, "beside", "--network", "container:alone", "busybox", "sleep", "1000")
    for target, words in (
        ("8090", "no running container publishes port 8090\nidle is stopped; it publishes this port when it runs"),
        ("8090", "wide is in the host's network and may listen on it"),
        ("9/udp", "no running container publishes port 9/udp"),
        ("idle", "idle is stopped: nobody reaches it"),
        ("alone", "alone has loopback only: nobody reaches it"),
        ("wide", "wide is in the host's network: the host's own rules decide"),
        ("beside", "beside shares the network of alone\nalone has loopback only"),
    ):
        assert words in engine.boxship("network", "explain", target).stdout
    missing = engine.boxship("network", "explain", "nosuch", check=False)
    assert (missing.returncode, "No such container: nosuch" in missing.stderr) == (1, True)


def test_a_route_that_comes_later_is_reported_until_it_goes(engine: Engine) -> None:
    engine.docker("network", "create", "--subnet", "10.99.7.0/24", "late")
    run(engine, "web", "--network", "late", "busybox", "sleep", "1000")

    def warnings() -> list[str]:
        return [text for text in engine.api("GET", "/info")[1]["Warnings"] or [] if "overlaps" in text]

    assert warnings() == []
    assert "Warnings" not in engine.api("GET", "/networks/late")[1]
    for words in (("link", "add", "vpn0", "type", "bridge"), ("link", "set", "vpn0", "up")):
        engine.namespace.run("ip", *words)
    engine.namespace.run("ip", "route", "add", "10.96.0.0/11", "dev", "vpn0")
    expected = "WARNING: the subnet of network late overlaps route 10.96.0.0/11 by vpn0: one hides the other"
    try:
        assert warnings() == [expected]
        assert expected in engine.docker("info").stderr
        assert engine.api("GET", "/networks/late")[1]["Warnings"] == [expected]
        assert "hint: the host's route 10.96.0.0/11 by vpn0 overlaps it" in explain(engine, "web")["Text"]
    finally:
        engine.namespace.run("ip", "link", "delete", "vpn0")
    assert warnings() == []


def test_the_words_of_explain_are_checked(engine: Engine) -> None:
    assert engine.boxship("network", "explain", check=False).returncode == 1
    result: subprocess.CompletedProcess[str] = engine.boxship("network", "explain", "70000", check=False)
    assert "No such container: 70000" in result.stderr
