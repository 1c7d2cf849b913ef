"""The firewall's tables in the kernel, and what should be in them; what they say is in :mod:`boxship.networks.filtering.rules`."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Sequence

from boxship.linux import nftables
from boxship.networks.filtering import host_rules, rules
from boxship.networks.filtering.rules import IPV4, IPV6, BridgeRules, Family
from boxship.networks.models import PublishedPort


class Firewall:
    """The tables in the kernel, and what should be in them.

    Hears of changes that others make to them (``flush ruleset``, a firewall reload) through :meth:`disturbed` on the
    descriptor :meth:`fileno`, so that its owner can :meth:`apply` them again. What the administrator writes into the chain
    ``rules.USER_CHAIN`` is no such change: it stays, and comes back with the rest.
    """

    def __init__(
        self, name: str, *, families: Sequence[Family] = (IPV4, IPV6), respect_host: bool = False, loopback: bool = True
    ) -> None:
        """``respect_host``: the host's own rules decide who of the outside reaches published ports.

        Without ``loopback`` packets to the host's loopback addresses are left to the proxy.

        Raises LibraryMissing, or OSError when the kernel has no nftables.
        """
        self.name = name
        self._families = families
        self.respect_host = respect_host
        self._loopback = loopback
        self.forward_drop: set[Family] = set()
        self._bridges: dict[str, BridgeRules] = {}
        self._ports: set[PublishedPort] = set()
        self._user_rules: dict[Family, list[str]] = {}
        self._nft = nftables.Context()
        self._changes = nftables.open_changes()
        self._own_port_id = 0
        self._read_user_rules()

    def fileno(self) -> int:
        return self._changes.fileno()

    def apply(self) -> None:
        """Put the whole tables in place; raises NftError."""
        self._read_user_rules()
        self._nft.run("".join(self._table(family) for family in self._families))
        self.disturbed()

    def add_bridge(self, bridge: BridgeRules) -> None:
        """Make a bridge known; raises NftError with nothing changed. Broken tables are put in place anew."""
        self._bridges[bridge.id] = bridge
        try:
            self._change("".join(rules.add_bridges(family, self.name, [bridge]) for family in self._families))
        except OSError:
            del self._bridges[bridge.id]
            raise

    def remove_bridge(self, id: str) -> None:
        """Forget a bridge; one that is not there is no error. Raises NftError."""
        bridge = self._bridges.pop(id, None)
        if bridge is not None:
            self._change("".join(rules.delete_bridge(family, self.name, bridge) for family in self._families))

    def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Add ports; raises NftError with nothing added. Tables that others have broken are put in place anew."""
        added = [port for port in ports if port not in self._ports]
        self._ports.update(added)
        try:
            commands = [rules.add_ports(family, self.name, added) for family in self._families]
            if self.respect_host:
                commands += [rules.guard_ports(family, self.name, added) for family in self._families]
            self._change("".join(commands))
        except OSError:
            self._ports.difference_update(added)
            raise

    def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        """Remove ports; those that are not there are no error."""
        removed = [port for port in ports if port in self._ports]
        self._ports.difference_update(removed)
        commands = [rules.delete_ports(family, self.name, removed) for family in self._families]
        if self.respect_host:
            commands += [rules.unguard_ports(family, self.name, removed) for family in self._families]
        self._change("".join(commands))

    def restore(self, bridges: Iterable[BridgeRules], ports: Iterable[PublishedPort]) -> None:
        """Say what exists, for the next :meth:`apply`."""
        self._bridges = {bridge.id: bridge for bridge in bridges}
        self._ports = set(ports)

    def dropped_forwarding(self) -> set[Family]:
        """Return the families of which the tables of an earlier run kept other traffic from being forwarded."""
        return {family for family in self._families if "policy drop" in self._list(family, "forward")}

    def disturbed(self) -> bool:
        """Tell whether somebody else changed the tables since the last call."""
        try:
            messages = self._changes.receive_events()
        except OSError as exc:
            if exc.errno == errno.ENOBUFS:
                return True
            raise
        foreign = written = others = False
        for change in map(nftables.read_change, messages):
            if change is None or change.table != self.name:
                others = others or change is not None
                continue
            if change.created:
                self._own_port_id = change.port_id  # nobody else makes a table of this name
            if change.port_id != self._own_port_id:
                if change.chain == rules.USER_CHAIN:
                    written = True
                else:
                    foreign = True
        if written and not foreign:
            self._read_user_rules()
        if others and not foreign and self.respect_host:
            with contextlib.suppress(OSError):  # a table that is gone is put in place anew soon
                self._nft.run("".join(rules.forget_admitted(family, self.name) for family in self._families))
        return foreign

    def remove(self) -> None:
        """Delete the tables; what is gone is no error."""
        for family in self._families:
            self._nft.run(f"add table {family.name} {self.name}\ndelete table {family.name} {self.name}")

    def close(self) -> None:
        """Free the sockets; the tables stay."""
        self._nft.close()
        self._changes.close()

    def obstacles(self) -> list[host_rules.Obstacle]:
        """Return the chains of others that drop packets on the way to this host and to containers."""
        return host_rules.read(self._nft.run_json, [self.name])

    def _table(self, family: Family) -> str:
        return rules.table(
            family,
            self.name,
            self._bridges.values(),
            list(self._ports),
            forward_drop=family in self.forward_drop,
            respect_host=self.respect_host,
            loopback=self._loopback,
            user_rules=self._user_rules.get(family, ()),
        )

    def _read_user_rules(self) -> None:
        """Learn what the administrator has written; from tables that are broken nothing is learned."""
        for family in self._families:
            if rules.USER_CHAIN not in self._list(family, "forward"):
                continue
            lines = [line.strip() for line in self._list(family, rules.USER_CHAIN).splitlines()]
            self._user_rules[family] = lines[2:-2]  # without the frames of table and chain

    def _list(self, family: Family, chain: str) -> str:
        try:
            return self._nft.run(f"list chain {family.name} {self.name} {chain}")
        except nftables.NftError:
            return ""

    def _change(self, commands: str) -> None:
        if not commands:
            return
        try:
            self._nft.run(commands)
        except nftables.NftError:
            self.apply()
