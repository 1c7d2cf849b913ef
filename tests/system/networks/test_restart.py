"""What a start finds: containers that still run, leftovers of a crash, bridges of others; and what an end leaves."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from boxship.base.errors import BoxshipError, NotFound
from boxship.linux import nftables, rtnetlink
from boxship.linux.mount import MS_BIND, mount
from boxship.linux.netlink import Socket
from boxship.networks import namespaces

pytestmark = pytest.mark.system


def execute(*requests):
    with Socket.open() as sock:
        sock.execute(requests)


@pytest.mark.row("NET-20")
def test_a_new_start_adopts_running_containers_and_sweeps_the_rest(isolated, bindings):
    async def scenario(lab):
        first = await lab.service()
        kept = await lab.attach(first, "kept", port_bindings=bindings(":8080:80/tcp"))
        lost = await lab.attach(first, "lost", port_bindings=bindings(":8081:80/tcp"))
        lab.serve(kept.key, 80)
        lab.serve(lost.key, 80)  # a process in it keeps the namespace alive
        await crash(first)
        Path(lab.root, "exec/netns/stray").touch()

        second = await lab.service(sandboxes={"a" * 64: kept})
        assert lab.fetch(None, "127.0.0.1", 8080) == "172.17.0.1"
        assert lab.fetch(None, "127.0.0.1", 8081) == "ConnectionRefusedError"
        assert lab.links() == {"lo", "docker0", kept.endpoints[0].host_link}
        names = set(os.listdir(f"{lab.root}/exec/netns"))
        assert Path(kept.key).name in names
        assert not {Path(lost.key).name, "stray"} & names
        with pytest.raises(BoxshipError, match=r"Bind for 0\.0\.0\.0:8080 failed: port is already allocated"):
            await lab.attach(second, "thief", port_bindings=bindings(":8080:80/tcp"))
        new = await lab.attach(second, "new", port_bindings=bindings(":8081:80/tcp"))
        assert new.endpoints[0].address == "172.17.0.3"
        assert set((await second.inspect("bridge")).containers) >= {"a" * 64}

    isolated(scenario)


def test_what_running_containers_miss_is_put_in_place(isolated, bindings):
    async def scenario(lab):
        first = await lab.service(bip="172.30.0.1/16")
        one = await lab.attach(first, "one", port_bindings=bindings(":8080:80/tcp"))
        two = await lab.attach(first, "two")
        lab.serve(one.key, 80)
        await crash(first)
        execute(rtnetlink.delete_link("docker0"))
        with nftables.Context() as nft:
            nft.run("flush ruleset")

        await lab.service(sandboxes={"a" * 64: one, "b" * 64: two})
        assert lab.fetch(None, "127.0.0.1", 8080) == "172.30.0.1"
        assert lab.fetch(two.key, "172.30.0.2", 80) == "172.30.0.3"

    isolated(scenario)


def test_the_end_of_the_last_container_and_close_leave_nothing(isolated, bindings):
    async def scenario(lab):
        service = await lab.service()
        sandboxes = [
            await lab.attach(service, f"c{n}", port_bindings=bindings(f":{8000 + n}:80/tcp")) for n in range(3)
        ]
        for sandbox in sandboxes:
            await service.release(sandbox)
            await service.release(sandbox)
        await service.close()
        with nftables.Context() as nft:
            assert nft.run("list ruleset") == ""
        assert os.listdir(f"{lab.root}/exec/netns") == []
        assert lab.root not in Path("/proc/self/mountinfo").read_text()
        with Socket.open() as sock:  # the kernel deletes the veth pairs with their namespaces, a moment later
            while {link.name for link in rtnetlink.list_links(sock)} != {"lo"}:
                pass
        assert open_sockets() == 0

    isolated(scenario)


def test_close_leaves_running_containers_their_network(isolated, bindings):
    async def scenario(lab):
        service = await lab.service()
        web = await lab.attach(service, "web", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(web.key, 80)
        await service.close()
        assert lab.fetch(None, "127.0.0.1", 8080) == "172.17.0.1"

    isolated(scenario)


@pytest.mark.row("NET-02")
def test_two_daemons_on_one_host_keep_out_of_each_others_way(isolated, bindings):
    async def scenario(lab):
        execute(rtnetlink.new_bridge("docker0", mac="02:42:00:00:00:01"))
        one = await lab.service("one")
        shutil.copytree(lab.root, f"{lab.root}/two", ignore=lambda *_: ["exec"])
        os.mkdir(f"{lab.root}/two/exec")
        lab.root += "/two"
        two = await lab.service("two")
        names = [(await service.inspect("bridge")).options["com.docker.network.bridge.name"] for service in (one, two)]
        assert names == ["boxship0", "boxship1"]
        first = await lab.attach(one, "first", port_bindings=bindings(":8080:80/tcp"))
        second = await lab.attach(two, "second")
        assert [s.endpoints[0].address for s in (first, second)] == ["172.17.0.2", "172.18.0.2"]
        with pytest.raises(BoxshipError, match="address already in use"):
            await lab.attach(two, "third", port_bindings=bindings(":8080:80/tcp"))
        lab.serve(second.key, 81)
        lab.serve(first.key, 80)
        assert lab.fetch(first.key, "172.18.0.2", 81, timeout=0.5) == "TimeoutError"
        assert lab.fetch(second.key, "172.17.0.1", 8080) == "172.17.0.1"

    isolated(scenario)


def test_a_chosen_bridge_is_used_as_it_is_and_must_exist(isolated):
    async def scenario(lab):
        with pytest.raises(BoxshipError, match="bridge device with non default name br9 must be created manually"):
            await lab.service(bridge="br9")
        execute(rtnetlink.new_bridge("br9", mac="02:42:00:00:00:01"))
        with Socket.open() as sock:
            link = rtnetlink.find_link(sock, "br9")
            sock.execute([rtnetlink.new_address(link.index, "10.7.0.1", 24)])
        service = await lab.service(bridge="br9")
        sandbox = await lab.attach(service, "one")
        assert sandbox.endpoints[0].address == "10.7.0.2"
        await service.release(sandbox)
        await service.close()
        assert "br9" in lab.links()

    isolated(scenario)


def test_without_a_bridge_only_none_and_host_are_there(isolated):
    async def scenario(lab):
        service = await lab.service(bridge="none")
        assert [network.name for network in await service.list({})] == ["host", "none"]
        with pytest.raises(NotFound, match="network bridge not found"):
            await lab.attach(service, "two")
        assert lab.links() == {"lo"}
        await lab.attach(service, "one", "none")

    isolated(scenario)


def test_a_failed_attach_leaves_nothing(isolated):
    async def scenario(lab):
        service = await lab.service()
        before = lab.links()
        with pytest.raises(BoxshipError, match="invalid MAC address: 02:42:zz"):
            await lab.attach(service, "bad", mac="02:42:zz")
        with pytest.raises(BoxshipError, match="failed to create endpoint bad on network bridge"):
            await lab.attach(service, "bad", mac="ff:ff:ff:ff:ff:ff")
        assert lab.links() == before
        assert (await lab.attach(service, "good")).endpoints[0].address == "172.17.0.2"

    isolated(scenario)


@pytest.mark.parametrize("stacked", [1, 2])
def test_removing_a_namespace_twice_or_below_another_mount_is_no_error(isolated, in_namespace, stacked):
    async def scenario(lab):
        path = f"{lab.root}/ns"
        Path(path).touch()
        for _ in range(stacked):
            mount("/proc/self/ns/net", path, None, MS_BIND)
        namespaces.remove(path)
        namespaces.remove(path)
        assert not Path(path).exists()

    isolated(scenario)


def open_sockets():
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    with open("/proc/self/net/netlink") as file:
        inodes = {line.split()[-1] for line in file}
    return sum(1 for link in links if link.startswith("socket:[") and link[8:-1] in inodes)


async def crash(service):
    """Do what the death of the process does: it makes no more namespaces, and its descriptors close."""
    service._pool._closed = True
    if service._pool._filling is not None:
        await service._pool._filling
    if service._host.firewall is not None:
        asyncio.get_running_loop().remove_reader(service._host.firewall.fileno())
        service._host.firewall.close()
    service._host.close()
    service._host.ports.close()
