"""Addresses of plugins: Docker's ``IpamDriver`` interface, and what its answers may say."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec

from boxship.base.errors import SystemFailure
from boxship.networks.catalog import Network, Pool
from boxship.networks.live import Chosen
from boxship.plugins import Call, Ledger, PluginRefused, Plugins

_GATEWAY = "com.docker.network.gateway"
_MAC = "com.docker.network.endpoint.macaddress"
_MAX_ID = 4096  # characters of a pool's id


class _Capabilities(msgspec.Struct):
    mac: bool = msgspec.field(default=False, name="RequiresMACAddress")
    replay: bool = msgspec.field(default=False, name="RequiresRequestReplay")


class _Spaces(msgspec.Struct, rename="pascal"):
    local_default_address_space: str = ""
    global_default_address_space: str = ""


class _Pool(msgspec.Struct):
    id: str = msgspec.field(default="", name="PoolID")
    subnet: str = msgspec.field(default="", name="Pool")
    data: dict[str, str] = msgspec.field(default_factory=dict, name="Data")


class _Address(msgspec.Struct, rename="pascal"):
    address: str = ""


class RemoteIpam:
    """One IPAM plugin."""

    def __init__(self, name: str, plugins: Plugins, ledger: Ledger) -> None:
        self._name = name
        self._plugins = plugins
        self._ledger = ledger

    async def capabilities(self, *, patient: bool = False) -> _Capabilities:
        """Return what it needs; a plugin without the call needs nothing. Raises NotFound, SystemFailure."""
        try:
            return await self._plugins.ask(
                self._name, "IpamDriver.GetCapabilities", None, _Capabilities, patient=patient
            )
        except PluginRefused:
            return _Capabilities()

    async def complete(self, network: Network, key: str) -> Network:
        """Return the network with the pools that the plugin gives it, debts of ``key``. Raises NotFound, SystemFailure."""
        await self.capabilities()
        spaces = await self._plugins.ask(self._name, "IpamDriver.GetDefaultAddressSpaces", None, _Spaces)
        local = network.scope == "local"
        space = spaces.local_default_address_space if local else spaces.global_default_address_space
        pools: list[Pool] = []
        for version, wanted in ((4, network.ipv4), (6, network.ipv6)):
            wishes = network.pools_of(version) or ([Pool(subnet="")] if wanted else [])
            pools += [await self._pool(network, version, wish, space, key) for wish in wishes]
        return msgspec.structs.replace(network, pools=pools)

    async def request(self, pool: Pool, wish: str, mac: str, key: str) -> Chosen:
        """Take an address of a pool, a debt of ``key``; raises SystemFailure."""
        address = await self._address(pool.id, wish, {_MAC: mac} if mac else {}, key)
        found = ip_interface(address)
        return Chosen(str(found.ip), found.network.prefixlen, "")

    async def replay(self, network: Network, addresses: list[str]) -> None:
        """Ask again for what a network and its endpoints have, where the plugin wants that. Raises NotFound, SystemFailure."""
        if not (await self.capabilities(patient=True)).replay:
            return
        for pool in network.pools:
            await self._plugins.ask(self._name, "IpamDriver.RequestPool", _pool_request(network, pool), _Pool)
            kept = [address for address in addresses if address and ip_address(address) in ip_network(pool.subnet)]
            for address, options in ((pool.gateway, {"RequestAddressType": _GATEWAY}), *((one, {}) for one in kept)):
                if address:
                    body = {"PoolID": pool.id, "Address": address, "Options": options}
                    await self._plugins.ask(self._name, "IpamDriver.RequestAddress", body, _Address)

    async def _pool(self, network: Network, version: int, wish: Pool, space: str, key: str) -> Pool:
        asked = msgspec.structs.replace(wish, space=space)
        answer = await self._plugins.ask(
            self._name, "IpamDriver.RequestPool", _pool_request(network, asked, version), _Pool
        )
        if len(answer.id) > _MAX_ID:
            raise SystemFailure("the plugin's pool has an id without end")
        await self._ledger.owe(key, Call(self._name, "IpamDriver.ReleasePool", {"PoolID": answer.id}))
        try:
            subnet = ip_network(answer.subnet, strict=False)
        except ValueError as exc:
            raise SystemFailure(f"invalid CIDR address: {answer.subnet[:100]}") from exc
        if subnet.version != version:
            raise SystemFailure(f"invalid pool of an IPv{version} network: {subnet}")
        gateway = answer.data.get(_GATEWAY, "").partition("/")[0]
        if asked.gateway or not gateway:
            options = {"RequestAddressType": _GATEWAY}
            try:
                gateway = (await self._address(answer.id, asked.gateway, options, key)).partition("/")[0]
            except SystemFailure as exc:
                raise SystemFailure(f"failed to allocate gateway ({asked.gateway or '<nil>'}): {exc}") from exc
        for name, address in asked.auxiliary.items():
            try:
                await self._address(answer.id, address, {}, key)
            except SystemFailure as exc:
                raise SystemFailure(f"failed to allocate secondary ip address ({name}:{address}): {exc}") from exc
        return msgspec.structs.replace(asked, subnet=str(subnet), gateway=gateway, id=answer.id)

    async def _address(self, pool_id: str, wish: str, options: dict[str, str], key: str) -> str:
        body = {"PoolID": pool_id, "Address": wish, "Options": options}
        answer = await self._plugins.ask(self._name, "IpamDriver.RequestAddress", body, _Address)
        address = answer.address
        release: dict[str, Any] = {"PoolID": pool_id, "Address": address[:100].partition("/")[0]}
        await self._ledger.owe(key, Call(self._name, "IpamDriver.ReleaseAddress", release))
        try:
            ip_interface(address)
        except ValueError as exc:
            raise SystemFailure(f"invalid CIDR address: {address[:100]}") from exc
        return address


def _pool_request(network: Network, pool: Pool, version: int = 0) -> dict[str, Any]:
    return {
        "AddressSpace": pool.space,
        "Pool": pool.subnet,
        "SubPool": pool.ip_range,
        "Options": network.ipam_options or {},
        "V6": (version or pool.version) == 6,
    }
