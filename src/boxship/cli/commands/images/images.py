"""``image ls`` (``images``): the list of images."""

from __future__ import annotations

import time

from boxship.cli.clock import go_time
from boxship.cli.command import Command, ExitError
from boxship.cli.flags import FILTER, TABLE_FORMAT, Flag
from boxship.cli.table import Listing, short_id
from boxship.cli.units import decimal_size, human_duration
from boxship.client.engine import filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from boxship.cli.command import Session
    from boxship.cli.flags import Values

    Row = dict[str, Any]  # an element of GET /images/json with one repository, tag and digest

NONE = "<none>"
RAW = (
    "repository: {{.Repository}}\n{{if .Tag}}tag: {{.Tag}}\n{{end}}image_id: {{.ID}}\n"
    "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
)

FLAGS = (
    Flag("all", "bool", "Show all images", short="a", shown="(default hides intermediate images)"),
    Flag("digests", "bool", "Show digests"),
    FILTER,
    TABLE_FORMAT,
    Flag("no-trunc", "bool", "Don't truncate output"),
    Flag("quiet", "bool", "Only show image IDs", short="q"),
    Flag("tree", "bool", "List multi-platform images as a tree (EXPERIMENTAL)"),
)


def listing(*, truncate: bool, digests: bool) -> Listing:
    """Return how images are listed."""
    fields = {
        "ID": ("IMAGE ID", lambda i: short_id(i["Id"]) if truncate else i["Id"]),
        "Repository": ("REPOSITORY", lambda i: i["repository"]),
        "Tag": ("TAG", lambda i: i["tag"]),
        "Digest": ("DIGEST", lambda i: i["digest"]),
        "CreatedSince": ("CREATED", lambda i: human_duration(time.time() - i["Created"]) + " ago"),
        "CreatedAt": ("CREATED AT", lambda i: go_time(i["Created"])),
        "Size": ("SIZE", lambda i: decimal_size(i["Size"], 3)),
        "Containers": ("CONTAINERS", lambda i: _count(i.get("Containers", -1))),
        "VirtualSize": ("SIZE", lambda i: decimal_size(i["Size"])),
        "SharedSize": ("SHARED SIZE", lambda i: _size(i.get("SharedSize", -1))),
        "UniqueSize": ("UNIQUE SIZE", _unique_size),
    }
    names = ("Repository", "Tag", *(("Digest",) if digests else ()), "ID", "CreatedSince", "Size")
    return Listing("*formatter.imageContext", fields, names)


def _count(number: int) -> str:
    return "N/A" if number == -1 else str(number)


def _size(size: int) -> str:
    return "N/A" if size == -1 else decimal_size(size, 4)


def _unique_size(image: Row) -> str:
    shared = image.get("SharedSize", -1)
    return "N/A" if shared == -1 else decimal_size(image["Size"] - shared, 4)


def rows(images: Sequence[dict[str, Any]], *, digests: bool) -> Iterator[Row]:
    """Yield a row for each name of each image, in the engine's order; one without names is ``<none>``."""
    for image in images:
        names = [name for name in image.get("RepoTags") or [] if name != "<none>:<none>"]
        pinned = [name for name in image.get("RepoDigests") or [] if name != "<none>@<none>"]
        tags: dict[str, list[str]] = {}
        for name in names:
            repository, _, tag = name.rpartition(":")
            tags.setdefault(repository, []).append(tag)
        by_repository: dict[str, list[str]] = {}
        for name in pinned:
            repository, _, digest = name.partition("@")
            by_repository.setdefault(repository, []).append(digest)
        if not names and not pinned:
            yield {**image, "repository": NONE, "tag": NONE, "digest": NONE}
        for repository in (*tags, *(name for name in by_repository if name not in tags)):
            for tag in tags.get(repository) or [NONE]:
                for digest in (by_repository.get(repository) or [NONE]) if digests else [NONE]:
                    yield {**image, "repository": repository, "tag": tag, "digest": digest}


def run(session: Session, values: Values) -> int:
    """List images."""
    if values.is_set("tree"):
        return _tree(session, values)
    format, quiet = values.text("format"), values.is_set("quiet")
    if not format and not quiet:
        format = session.config.text("imagesFormat")
    filters = values.filters()
    if values.arguments:
        filters.setdefault("reference", []).append(values.arguments[0])
    query: dict[str, object] = {}
    if values.is_set("all"):
        query["all"] = True
    if filters:
        query["filters"] = filters_text(filters)
    images = session.engine.json("GET", "/images/json", query) or []
    digests = values.is_set("digests") or ".Digest" in format
    shown = listing(truncate=not values.is_set("no-trunc"), digests=values.is_set("digests"))
    shown.show(session, list(rows(images, digests=digests)), format, quiet=quiet, raw=RAW)
    return 0


def _tree(session: Session, values: Values) -> int:
    for flag, name in (("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest"), ("format", "format")):
        if flag in values.changed:
            raise ExitError(f"--{name} is not yet supported with --tree")
    from boxship.cli import image_tree

    session.engine.require("1.47", "--tree")
    query: dict[str, object] = {"manifests": True}
    if values.is_set("all"):
        query["all"] = True
    filters = values.filters()
    if values.arguments:
        filters.setdefault("reference", []).append(values.arguments[0])
    if filters:
        query["filters"] = filters_text(filters)
    images = session.engine.json("GET", "/images/json", query) or []
    shown = [image for image in images if image.get("RepoTags") or values.is_set("all")]
    for line in image_tree.lines(shown, image_tree.width()):
        session.line(line)
    return 0


COMMANDS = {"image ls": Command("[OPTIONS] [REPOSITORY[:TAG]]", run, FLAGS, most=1)}
