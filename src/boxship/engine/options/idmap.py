"""``idmap`` of a mount: whose files are whose on disk and in the container.

``idmap`` alone makes the owner of the source the container's user. ``idmap=uids=1000-0-1#100000-1-999;gids=1000-0-1`` names
ranges: first id on disk, first id in the container, how many. Kinds without ranges follow the owner.
"""

from __future__ import annotations

import itertools
import re

from boxship.base.errors import InvalidInput
from boxship.engine.model import IdMap

_RANGE = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,10})")
_MOST_RANGES = 340  # user_namespaces(7)
_MOST_IDS = (1 << 32) - 1


def parse(text: str) -> IdMap:
    """Return the meaning of what stands after ``idmap=``, nothing included. Raises InvalidInput."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for part in filter(None, text.split(";")):
        kind, _, ranges = part.partition("=")
        if kind not in ("uids", "gids") or kind in found:
            raise InvalidInput(f"invalid idmap: {text}: it has uids=RANGES and gids=RANGES, with a ';' between them")
        found[kind] = [_range(each, text) for each in ranges.split("#")]
        if len(found[kind]) > _MOST_RANGES:
            raise InvalidInput(f"invalid idmap: more than {_MOST_RANGES} ranges")
        for side in (0, 1):
            _check_apart(sorted((each[side], each[2]) for each in found[kind]), text)
    return IdMap(uids=found.get("uids", []), gids=found.get("gids", []))


def is_idmap(mode: str) -> bool:
    """Tell whether a word of ``-v``'s modes is this one."""
    return mode == "idmap" or mode.startswith("idmap=")


def _range(text: str, whole: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"invalid idmap: {whole}: '{text}' is not ON_DISK-IN_CONTAINER-COUNT")
    on_disk, inside, count = (int(number) for number in match.groups())
    if not count or max(on_disk, inside) + count > _MOST_IDS:
        raise InvalidInput(f"invalid idmap: {whole}: '{text}' has no ids, or too many")
    return on_disk, inside, count


def _check_apart(spans: list[tuple[int, int]], whole: str) -> None:
    for (first, count), (following, _) in itertools.pairwise(spans):
        if first + count > following:
            raise InvalidInput(f"invalid idmap: {whole}: ranges overlap")
