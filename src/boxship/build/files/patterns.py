"""Wildcards of COPY and ADD, as Go's ``filepath.Match``: stars, question marks, sets and escapes in one path component."""

from __future__ import annotations

import re

from boxship.build.files.node import Kind, Tree

_MAGIC = frozenset("*?[\\")


def has_wildcards(path: str) -> bool:
    """Return whether the path is a pattern."""
    return not _MAGIC.isdisjoint(path)


def expand(tree: Tree, pattern: str) -> list[str]:
    """Return the paths that fit, sorted; links are not followed on the way, as in Docker. Blocks."""
    found = [""]
    for part in pattern.strip("/").split("/"):
        if not has_wildcards(part):
            found = [f"{path}/{part}" if path else part for path in found]
            continue
        matches = _compiled(part).fullmatch
        found = [f"{path}/{name}" if path else name for path in found for name in _names(tree, path) if matches(name)]
    return [path for path in found if _exists(tree, path)]


def _names(tree: Tree, path: str) -> list[str]:
    try:
        return tree.names(path) if tree.node(path).kind is Kind.DIRECTORY else []
    except OSError:
        return []


def _exists(tree: Tree, path: str) -> bool:
    try:
        tree.node(path)
    except OSError:
        return False
    return True


def _compiled(part: str) -> re.Pattern[str]:
    """Return the component as a regular expression without repetition of groups: it matches in linear time or close."""
    text, position = "", 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            if not text.endswith(".*"):
                text += ".*"
        elif character == "?":
            text += "."
        elif character == "\\" and position < len(part):
            text += re.escape(part[position])
            position += 1
        elif character == "[" and (end := part.find("]", position + 1)) > 0:
            inside = part[position:end]
            negated = inside.startswith("^")
            members = inside[1:] if negated else inside
            text += f"[{'^' if negated else ''}{_members(members)}]" if members else re.escape(f"[{inside}]")
            position = end + 1
        else:
            text += re.escape(character)
    return re.compile(text, re.DOTALL)


def _members(text: str) -> str:
    """Return what stands in brackets for a regular expression: ranges stay, all else is literal."""
    return "".join(character if character == "-" else re.escape(character) for character in text)
