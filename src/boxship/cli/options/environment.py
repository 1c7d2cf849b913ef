"""Environment and labels, from flags and from files."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

WHITESPACE = " \t"


def read_environment(files: Iterable[str], flags: Iterable[str | None]) -> list[str]:
    """Return the variables of the files, then those of the flags, where the last of a name counts. Raises ValueError, OSError."""
    given = {item.partition("=")[0]: item for item in flags if item is not None}
    return [*_read_files(files, inherit=True), *given.values()]


def read_labels(files: Iterable[str], flags: Iterable[str]) -> dict[str, str]:
    """Return labels by name; a bare name has an empty value. Raises ValueError, OSError."""
    pairs = [*_read_files(files, inherit=False), *flags]
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _read_files(files: Iterable[str], *, inherit: bool) -> list[str]:
    lines: list[str] = []
    for path in files:
        lines.extend(_read_file(path, inherit=inherit))
    return lines


def _read_file(path: str, *, inherit: bool) -> list[str]:
    """Return the assignments of one file; a bare name takes the caller's value if ``inherit`` is set."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as exc:
        raise ValueError(f"open {path}: {(exc.strerror or '').lower()}") from exc
    found = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            line = raw.decode("utf-8").lstrip()
        except UnicodeDecodeError:
            raise ValueError(
                f"invalid env file ({path}): invalid utf8 bytes at line {number}: {_go_bytes(raw)}"
            ) from None
        if not line or line.startswith("#"):
            continue
        name, equals, _ = line.partition("=")
        if not name.strip():
            raise ValueError(f"invalid env file ({path}): no variable name on line '{line}'")
        name = name.lstrip()
        if any(blank in name for blank in WHITESPACE):
            raise ValueError(f"invalid env file ({path}): variable '{name}' contains whitespaces")
        if equals:
            found.append(line)
        elif inherit and name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def _go_bytes(raw: bytes) -> str:
    return "[" + " ".join(str(byte) for byte in raw) + "]"
