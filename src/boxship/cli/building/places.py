"""``--build-context``, ``--cache-from`` and ``--cache-to``: places that the engine knows, and clear words about those it does not."""

from __future__ import annotations

import os

from boxship.cli import csvfields
from boxship.cli.command import ExitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMAGE = "docker-image://"


def named_contexts(items: Sequence[str]) -> dict[str, str]:
    """Return the images (``docker-image://...``) and directories that contexts stand for, by name. Raises ExitError."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ExitError(f"invalid context value: {item}, expected key=value")
        if "://" in value and (not value.startswith(IMAGE) or value == IMAGE):
            raise ExitError(f"--build-context {item}: only directories and images ({IMAGE}NAME) are supported")
        if "://" not in value and not os.path.isdir(value):
            raise ExitError(f"--build-context {item}: {value} is no directory")
        found[name] = value if "://" in value else os.path.realpath(value)
    return found


def in_archive(contexts: Mapping[str, str]) -> dict[str, str]:
    """Return names that the directories among ``contexts`` have in the archive of the main one, which it has not itself."""
    return {
        name: f".boxship-context-{os.urandom(10).hex()}"
        for name, value in contexts.items()
        if not value.startswith(IMAGE)
    }


def cache_sources(items: Sequence[str]) -> list[str]:
    """Return the images whose layers may serve. Raises ExitError."""
    found: list[str] = []
    for item in items:
        fields = _fields(item)
        if fields is None:
            found += item.split(",")
        elif fields.get("type") == "registry" and fields.get("ref"):
            found.append(fields["ref"])
        elif fields.get("type") == "registry":
            raise ExitError(f"--cache-from {item}: ref is required")
        else:
            raise ExitError(f"--cache-from {item}: only images (NAME or type=registry,ref=NAME) are supported")
    return found


def check_cache_targets(items: Sequence[str]) -> None:
    """Allow what needs nothing done: each image that was built here can be a cache. Raises ExitError."""
    for item in items:
        if (_fields(item) or {}).get("type") != "inline":
            raise ExitError(
                f"--cache-to {item}: only type=inline is supported, push the image and name it with --cache-from"
            )


def _fields(item: str) -> dict[str, str] | None:
    """Return ``key=value`` pairs; None for a plain name."""
    try:
        parts = csvfields.split(item)
    except ValueError as exc:
        raise ExitError(f"failed to parse cache: {exc}") from exc
    if not all("=" in part for part in parts):
        return None
    return {key.strip().lower(): value for key, _, value in (part.partition("=") for part in parts)}
