"""Owners of files where containers have ids of their own (``--userns-remap``).

Layers lie on disk with the host's ids of the containers' users, so that a container's root filesystem needs no help from
the kernel; archives hold the containers' ids. Both ways of an archive pass here. File capabilities name the root user that
they count for (capabilities(7), "File capability versioning"): that is container root's host id on disk, nobody in archives.
"""

from boxship.base.identity import IdentityMapping, UnmappedId
from boxship.snapshots.tar_reader import Entry, InvalidTar

CAPABILITY = "security.capability"
# linux/capability.h: the highest byte of the first little-endian word is the version; the third one has four bytes more.
_VERSION = 3
_V2, _V2_SIZE = 2, 20
_V3, _V3_SIZE = 3, 24


def to_host(entry: Entry, identity: IdentityMapping) -> None:
    """Give an entry of an archive the owner that it gets on disk. Raises InvalidTar for ids that containers do not have."""
    try:
        entry.uid, entry.gid = identity.to_host(entry.uid, entry.gid)
    except UnmappedId as exc:
        raise InvalidTar(str(exc)) from exc
    value = entry.xattrs.get(CAPABILITY)
    if value is not None and len(value) == _V2_SIZE and value[_VERSION] == _V2:
        root = identity.root[0].to_bytes(4, "little")
        entry.xattrs = {**entry.xattrs, CAPABILITY: value[:_VERSION] + bytes([_V3]) + value[_VERSION + 1 :] + root}


def to_container(entry: Entry, identity: IdentityMapping) -> None:
    """Give an entry that was made from a file on disk the owner that the container sees."""
    entry.uid, entry.gid = identity.to_container(entry.uid, entry.gid)
    value = entry.xattrs.get(CAPABILITY)
    if value is not None and len(value) == _V3_SIZE and value[_VERSION] == _V3:
        kept = value[:_VERSION] + bytes([_V2]) + value[_VERSION + 1 : _V2_SIZE]
        entry.xattrs = {**entry.xattrs, CAPABILITY: kept}
