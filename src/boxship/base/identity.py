"""User and group ids of containers and the host ids that stand for them (user_namespaces(7)).

A mapping is a list of ranges for users and one for groups, each ``(container id, host id, size)`` as in
``/proc/PID/uid_map``. Container root is an ordinary user of the host.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Range = tuple[int, int, int]
    """First id in the container, first id on the host, how many."""


class UnmappedId(ValueError):
    """A container's id that no host id stands for; the text is Docker's."""


class IdentityMapping:
    """Which ids of the host the users and groups of containers are."""

    __slots__ = ("gids", "uids")

    def __init__(self, uids: Sequence[Range], gids: Sequence[Range]) -> None:
        """Take the ranges; container root must be mapped. Raises UnmappedId."""
        self.uids = tuple(uids)
        self.gids = tuple(gids)
        self.to_host(0, 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentityMapping) and (self.uids, self.gids) == (other.uids, other.gids)

    def __hash__(self) -> int:
        return hash((self.uids, self.gids))

    def __repr__(self) -> str:
        return f"IdentityMapping(uids={self.uids}, gids={self.gids})"

    @property
    def root(self) -> tuple[int, int]:
        """The host's uid and gid of container root."""
        return self.to_host(0, 0)

    def to_host(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the host's ids of a container's. Raises UnmappedId."""
        return _forward(self.uids, uid), _forward(self.gids, gid)

    def to_container(self, uid: int, gid: int) -> tuple[int, int]:
        """Return a container's ids of the host's; ids that belong to no container stay as they are."""
        return _backward(self.uids, uid), _backward(self.gids, gid)

    def oci(self) -> dict[str, list[dict[str, int]]]:
        """Return ``uidMappings`` and ``gidMappings`` of the runtime-spec (config-linux.md)."""
        return {
            name: [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges]
            for name, ranges in (("uidMappings", self.uids), ("gidMappings", self.gids))
        }

    def message(self) -> dict[str, list[list[int]]]:
        """Return what the launcher is told."""
        return {"uids": [list(row) for row in self.uids], "gids": [list(row) for row in self.gids]}


def _forward(ranges: tuple[Range, ...], id: int) -> int:
    for inside, outside, size in ranges:
        if inside <= id < inside + size:
            return outside + id - inside
    raise UnmappedId(f"Container ID {id} cannot be mapped to a host ID")


def _backward(ranges: tuple[Range, ...], id: int) -> int:
    for inside, outside, size in ranges:
        if outside <= id < outside + size:
            return inside + id - outside
    return id
