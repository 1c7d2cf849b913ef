"""Many networks: each costs what it costs, not what all cost; scripts/network-figures makes thousands."""

from __future__ import annotations

import asyncio
import json

import pytest

from boxship.linux import nftables, rtnetlink
from boxship.linux.netlink import Socket
from boxship.spec.docker.network import NetworkCreate

pytestmark = pytest.mark.system

COUNT = 40


@pytest.mark.row("NET-05", "NET-09")
def test_networks_come_and_go_without_a_new_table(isolated, bindings):
    async def scenario(lab):
        service = await lab.service()
        with nftables.Context() as nft:
            before = handle(nft)
            await asyncio.gather(*(service.create(NetworkCreate(name=f"n{number}")) for number in range(COUNT)))
            web = await lab.attach(service, "web", f"n{COUNT - 1}", port_bindings=bindings(":8080:80/tcp"))
            lab.serve(web.key, 80)
            assert lab.fetch(None, "127.0.0.1", 8080).endswith(".1")
            for number in range(COUNT - 1):
                await service.remove(f"n{number}")
            assert handle(nft) == before
            assert lab.fetch(None, "127.0.0.1", 8080).endswith(".1")
            await service.release(web)
            await service.remove(f"n{COUNT - 1}")
            assert nft.run("list table ip boxship_lab").count("chain from-") == 1  # the default bridge's
        with Socket.open() as sock:
            assert [link.name for link in rtnetlink.list_links(sock) if link.kind == "bridge"] == ["docker0"]

    isolated(scenario)


def handle(nft):
    """Return what tells a table from one that replaced it."""
    tables = [each["table"] for each in json.loads(nft.run_json("list tables"))["nftables"] if "table" in each]
    return next(table["handle"] for table in tables if (table["family"], table["name"]) == ("ip", "boxship_lab"))
