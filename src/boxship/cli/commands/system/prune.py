"""``builder``, ``container``, ``image``, ``network``, ``volume`` and ``system prune``: remove what nothing uses."""

from __future__ import annotations

from boxship.cli.command import Command
from boxship.cli.flags import FORCE, Flag, check_filter
from boxship.cli.units import decimal_size, parse_size
from boxship.client.engine import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Filters = dict[str, list[str]]


_BOUNDS = ("keep-storage", "max-used-space", "min-free-space", "reserved-space")
_UNBOUNDED: Mapping[str, int] = {}


def _filter(example: str) -> Flag:
    return Flag("filter", "filter", f'Provide filter values (e.g. "{example}")', check=check_filter)


UNTIL = _filter("until=<timestamp>")
CONTAINERS = "all stopped containers"
NETWORKS = "all networks not used by at least one container"
DANGLING = "all dangling images"
UNUSED = "all images without at least one container associated to them"
ANONYMOUS = "anonymous local volumes not used by at least one container"
ALL_VOLUMES = "all volumes not used by at least one container"
OLD_VOLUMES = "all local volumes not used by at least one container"


def _filters(session: Session, values: Values) -> Filters:
    """Return the filters of the flags and of ``pruneFilters`` in ``config.json``."""
    filters = values.filters()
    for item in session.config.document.get("pruneFilters") or []:
        name, _, value = item.partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(name)
        if value not in filters.get(opposite or "", []) and value not in filters.get(name, []):
            filters.setdefault(name, []).append(value)
    return filters


def _call(session: Session, path: str, filters: Filters) -> dict[str, Any]:
    query = {"filters": filters_text(filters)} if filters else {}
    answer: dict[str, Any] = session.engine.json("POST", path, query) or {}
    return answer


def containers(session: Session, values: Values) -> int:
    """Remove stopped containers."""
    if values.is_set("force") or session.confirm(f"WARNING! This will remove {CONTAINERS}."):
        _finish(session, prune_containers(session, _filters(session, values)))
    return 0


def prune_containers(session: Session, filters: Filters) -> int:
    """Remove stopped containers, print them and return the bytes that came free."""
    answer = _call(session, "/containers/prune", filters)
    _print_list(session, "Deleted Containers", answer.get("ContainersDeleted"))
    return int(answer.get("SpaceReclaimed") or 0)


def images(session: Session, values: Values) -> int:
    """Remove images without a name, or all that no container uses."""
    everything = values.is_set("all")
    if values.is_set("force") or session.confirm(f"WARNING! This will remove {UNUSED if everything else DANGLING}."):
        _finish(session, prune_images(session, _filters(session, values), everything=everything))
    return 0


def prune_images(session: Session, filters: Filters, *, everything: bool) -> int:
    """Remove images, print their names and layers and return the bytes that came free."""
    answer = _call(session, "/images/prune", {**filters, "dangling": ["false" if everything else "true"]})
    deleted = answer.get("ImagesDeleted") or []
    lines = [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}" for item in deleted
    ]
    _print_list(session, "Deleted Images", lines)
    return int(answer.get("SpaceReclaimed") or 0)


def networks(session: Session, values: Values) -> int:
    """Remove networks without containers."""
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if values.is_set("force") or session.confirm(warning):
        prune_networks(session, _filters(session, values))
    return 0


def prune_networks(session: Session, filters: Filters) -> None:
    """Remove networks and print them."""
    _print_list(session, "Deleted Networks", _call(session, "/networks/prune", filters).get("NetworksDeleted"))


def volumes(session: Session, values: Values) -> int:
    """Remove volumes that no container has."""
    filters = _filters(session, values)
    everything = values.is_set("all")
    if everything and session.engine.speaks("1.42"):
        filters["all"] = ["true"]
    # Older engines always removed all of them.
    warned = (ALL_VOLUMES if everything else ANONYMOUS) if session.engine.speaks("1.42") else OLD_VOLUMES
    if values.is_set("force") or session.confirm(f"WARNING! This will remove {warned}."):
        _finish(session, prune_volumes(session, filters))
    return 0


def prune_volumes(session: Session, filters: Filters) -> int:
    """Remove volumes, print them and return the bytes that came free."""
    answer = _call(session, "/volumes/prune", filters)
    _print_list(session, "Deleted Volumes", answer.get("VolumesDeleted"))
    return int(answer.get("SpaceReclaimed") or 0)


def cache(session: Session, values: Values) -> int:
    """Remove what builds kept."""
    everything = values.is_set("all")
    warned = "all build cache" if everything else "all dangling build cache"
    if values.is_set("force") or session.confirm(f"WARNING! This will remove {warned}."):
        bounds = {name: values.number(name) for name in _BOUNDS if values.number(name)}
        _finish(session, prune_cache(session, values.filters(), everything=everything, bounds=bounds))
    return 0


def prune_cache(session: Session, filters: Filters, *, everything: bool, bounds: Mapping[str, int] = _UNBOUNDED) -> int:
    """Remove records of the build cache, print their ids and return the bytes that came free; ``bounds`` by flag."""
    query: dict[str, object] = {"filters": filters_text(filters)} if filters else {}
    if everything:
        query["all"] = True
    query |= bounds
    answer = session.engine.json("POST", "/build/prune", query) or {}
    _print_list(session, "Deleted build cache objects", answer.get("CachesDeleted"))
    return int(answer.get("SpaceReclaimed") or 0)


def system(session: Session, values: Values) -> int:
    """Remove containers, networks, images and, when asked, volumes that nothing uses."""
    with_volumes, everything = values.is_set("volumes"), values.is_set("all")
    doomed = ["all stopped containers", "all networks not used by at least one container"]
    if with_volumes:
        doomed.append("all anonymous volumes not used by at least one container")
    doomed.append(UNUSED if everything else DANGLING)
    doomed.append("all build cache" if everything else "unused build cache")
    filters = _filters(session, values)
    warning = "WARNING! This will remove:\n" + "\n".join(f"  - {item}" for item in doomed) + "\n"
    if filters:
        warning += "\n  Items to be pruned will be filtered with:\n"
        warning += "".join(f"  - {name}={value}\n" for name, held in sorted(filters.items()) for value in held)
    if not values.is_set("force") and not session.confirm(warning):
        return 0
    freed = prune_containers(session, filters)
    prune_networks(session, filters)
    if with_volumes:
        freed += prune_volumes(session, {name: held for name, held in filters.items() if name != "until"})
    freed += prune_images(session, filters, everything=everything)
    freed += prune_cache(session, filters, everything=everything)
    _finish(session, freed)
    return 0


def _print_list(session: Session, title: str, items: list[str] | None) -> None:
    if items:
        session.out(f"{title}:\n" + "".join(f"{item}\n" for item in items) + "\n")


def _finish(session: Session, freed: int) -> None:
    session.line(f"Total reclaimed space: {decimal_size(freed)}")


COMMANDS = {
    "builder prune": Command(
        "",
        cache,
        (
            Flag("all", "bool", "Remove all unused build cache, not just dangling ones", short="a"),
            _filter("until=24h"),
            FORCE,
            Flag("keep-storage", "bytes", "Amount of disk space to keep for cache", check=parse_size),
            Flag("max-used-space", "bytes", "Maximum amount of disk space allowed to keep for cache", check=parse_size),
            Flag("min-free-space", "bytes", "Target amount of free disk space after pruning", check=parse_size),
            Flag("reserved-space", "bytes", "Amount of disk space always allowed to keep for cache", check=parse_size),
        ),
    ),
    "container prune": Command("[OPTIONS]", containers, (UNTIL, FORCE)),
    "image prune": Command(
        "[OPTIONS]",
        images,
        (Flag("all", "bool", "Remove all unused images, not just dangling ones", short="a"), UNTIL, FORCE),
    ),
    "network prune": Command("[OPTIONS]", networks, (UNTIL, FORCE)),
    "volume prune": Command(
        "[OPTIONS]",
        volumes,
        (
            Flag("all", "bool", "Remove all unused volumes, not just anonymous ones", short="a"),
            _filter("label=<label>"),
            FORCE,
        ),
    ),
    "system prune": Command(
        "[OPTIONS]",
        system,
        (
            Flag("all", "bool", "Remove all unused images not just dangling ones", short="a"),
            _filter("label=<key>=<value>"),
            FORCE,
            Flag("volumes", "bool", "Prune anonymous volumes"),
        ),
    ),
}
