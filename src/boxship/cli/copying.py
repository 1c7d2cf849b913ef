"""Where ``docker cp`` puts what, decided by text and four facts; Docker's rules, as those of ``cp -a``.

Words: an *entry* is the last name of a path, ``.`` when the path ends so ("the content of"). ``rebase`` replaces the first
occurrence of a name in an archive's names, which is how a copy gets another name.
"""

from __future__ import annotations


class CopyError(Exception):
    """Source and destination do not go together; the text is Docker's."""


class Side:
    """One end of a copy: the path, what is there, and the name that its archive gets instead of its entry (or "")."""

    __slots__ = ("exists", "is_directory", "path", "rebase_name")

    def __init__(self, path: str, *, exists: bool, is_directory: bool, rebase_name: str = "") -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory
        self.rebase_name = rebase_name


def split_argument(argument: str) -> tuple[str, str]:
    """Return container (or "") and path of an argument; ``./a:b`` and ``/a:b`` are local."""
    container, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or container.startswith("."):
        return "", argument
    return container, path


def clean(path: str) -> str:
    """Return the shortest equal path, by text alone."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and (rooted or (parts and parts[-1] != "..")):
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" * rooted + "/".join(parts) or "."


def base(path: str) -> str:
    """Return the last name of a path: ``.`` of "" and ``a/.``, ``/`` of the root, ``a`` of ``a/``."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def join(directory: str, path: str) -> str:
    """Return ``path`` below ``directory``, cleaned."""
    return clean(f"{directory}/{path}")


def split_entry(path: str) -> tuple[str, str]:
    """Return the directory of a path and its entry."""
    cleaned = clean(path)
    if base(path) == ".":
        return cleaned, "."
    return clean(cleaned.rpartition("/")[0] or ("/" if cleaned.startswith("/") else ".")), base(cleaned)


def preserve_end(cleaned: str, original: str) -> str:
    """Return a cleaned path with the ``/`` or ``/.`` at its end that the original has."""
    if base(cleaned) != "." and base(original) == ".":
        cleaned = f"{cleaned.rstrip('/')}/."
    if not cleaned.endswith("/") and original.endswith("/"):
        cleaned += "/"
    return cleaned


def rebase_name(path: str, resolved: str) -> tuple[str, str]:
    """Return the resolved path with the end of the typed one, and the name that the copy keeps although a link led away."""
    resolved = preserve_end(resolved, path)
    return resolved, base(path) if base(path) != base(resolved) else ""


def rebase(name: str, old: str, new: str) -> str:
    """Return an archive's name with the first ``old`` replaced; an ``old`` of ``/`` stands for the empty name."""
    return name.replace("" if old == "/" else old, new, 1)


def plan(source: Side, destination: Side) -> tuple[str, tuple[str, str] | None]:
    """Return the directory to unpack in, and what to rebase (None: names stay). Raises CopyError."""
    if destination.exists and destination.is_directory:
        return destination.path, None
    if destination.exists and source.is_directory:
        raise CopyError("cannot copy directory")
    if not destination.exists and not source.is_directory and destination.path.endswith(("/", "/.")):
        raise CopyError("no such directory")
    directory, entry = split_entry(destination.path)
    return directory, (source.rebase_name or split_entry(source.path)[1], entry)
