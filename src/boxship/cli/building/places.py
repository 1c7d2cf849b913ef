"""``--build-context``: places that the engine knows, and clear words about those it does not."""

from __future__ import annotations

import os

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
