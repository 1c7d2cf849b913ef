"""``image ls --tree``: images with the platforms that are kept of each, laid out as Docker does, without colours."""

from __future__ import annotations

import os

from boxship.cli.command import STDOUT
from boxship.cli.units import decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

WARNING = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
LEGEND = "Info ->  U In Use "
UNTAGGED = "<untagged>"
WIDTH = 80  # columns when it goes to no terminal
_BRANCH, _LAST = "├─ ", "└─ "
_BRANCH_WIDTH = 7  # what Docker reserves for one
_SPACE = "   "
_NARROWEST = 15  # columns of names, below which the last column goes
_COLUMNS = (("ID", 12, "<"), ("DISK USAGE", 10, ">"), ("CONTENT SIZE", 12, ">"), ("EXTRA", 5, "<"))


def width() -> int:
    """Return the columns that there are for the list."""
    return os.get_terminal_size(STDOUT).columns if os.isatty(STDOUT) else WIDTH


def lines(images: Sequence[dict[str, Any]], columns: int) -> list[str]:
    """Return the list of images of ``GET /images/json?manifests=1`` for so many columns."""
    shown = [_image(image) for image in images]
    longest = max(
        [len("IMAGE")]
        + [len(name) for names, _, _ in shown for name in names]
        + [len(platform) + _BRANCH_WIDTH for _, _, children in shown for platform, _ in children]
    )
    headers = list(_COLUMNS)
    while columns - _taken(headers) < _NARROWEST and len(headers) > 1:
        headers.pop()
    first = max(min(longest, columns - _taken(headers)), len("IMAGE"))

    def line(name: str, cells: Sequence[str]) -> str:
        name = name if len(name) <= first else name[: first - 1] + "…"
        padded = [f"{cell:{align}{size}}" for cell, (_, size, align) in zip(cells, headers, strict=False)]
        return _SPACE.join([f"{name:<{first}}", *padded])

    titles = [title for title, _, _ in headers]
    found = [WARNING, LEGEND.rjust(columns), "", line("IMAGE", titles).rstrip()]
    spaced = any(children for _, _, children in shown)
    for names, cells, children in shown:
        found += [*names[:-1], line(names[-1], cells)]
        for position, (platform, below) in enumerate(children, 1):
            found.append(line((_LAST if position == len(children) else _BRANCH) + platform, below))
        if spaced:
            found.append("")
    return found


def _taken(headers: Sequence[tuple[str, int, str]]) -> int:
    return sum(size + len(_SPACE) for _, size, _ in headers)


def _image(image: dict[str, Any]) -> tuple[list[str], list[str], list[tuple[str, list[str]]]]:
    """Return the names, the cells, and the platform and cells of each manifest."""
    used, content = int(image.get("Containers") or 0) > 0, 0
    children = []
    for manifest in image.get("Manifests") or []:
        size = manifest["Size"]
        content += size["Content"]  # of attestations, too
        if manifest.get("Kind") != "image":
            continue
        data = manifest["ImageData"]
        used = used or bool(data.get("Containers"))
        cells = _cells(manifest["ID"], size["Total"], size["Content"], used=bool(data.get("Containers")))
        platform = data["Platform"]
        parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
        children.append(("/".join(part for part in parts if part), cells))
    return image.get("RepoTags") or [UNTAGGED], _cells(image["Id"], image["Size"], content, used=used), children


def _cells(digest: str, usage: int, content: int, *, used: bool) -> list[str]:
    return [
        digest.rpartition(":")[2][:12],
        decimal_size(usage, 3),
        decimal_size(content, 3),
        "U" if used else "",
    ]
