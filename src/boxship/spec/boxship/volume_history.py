"""Documents below /boxship/volumes: snapshots of a volume, changes to one."""

from __future__ import annotations

import msgspec


class VolumeSnapshot(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str
    created_at: str  # RFC 3339
    size: int  # bytes of all files, those shared with other snapshots too
    entries: int  # files, directories, links


class VolumeChange(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    kind: str  # added, changed, deleted
    path: str  # from the volume's root


class NewName(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of what makes something: a snapshot, a clone, another name."""

    name: str = ""


class VolumeUpdate(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of a change to a volume; what is not named stays."""

    size: str = ""  # as the option ``size``
    add_labels: dict[str, str] = {}
    remove_labels: list[str] = []
