"""The functions that templates may call: Go's own and Docker's (json, join, split, upper, lower, title, pad, truncate)."""

from __future__ import annotations

from boxship.cli.template.errors import ExecError
from boxship.cli.template.printing import Nil, sprintf, text
from boxship.client import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def is_true(value: object) -> bool:
    """Whether ``value`` counts as true in ``if`` and ``with``: not zero, not empty."""
    return bool(value)


def to_json(value: object) -> str:
    """Return ``value`` as compact JSON."""
    plain = getattr(value, "as_json", None)
    return plain() if plain is not None else jsontext.dumps(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, Nil):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | dict | Nil):
        return len(value)
    raise ExecError(f"error calling len: len of type {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "nil pointer"
    return {bool: "bool", int: "int", float: "float64", str: "string"}.get(type(value), "value")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(str(key))
            if value is None:
                return ""  # the zero value, which for the maps of this API is empty
        elif isinstance(value, list | str | Nil):
            if not isinstance(key, int) or isinstance(key, bool):
                raise ExecError(f"error calling index: cannot index slice/array with type {_kind(key)}")
            if isinstance(value, Nil) or not 0 <= key < len(value):
                raise ExecError(f"error calling index: index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise ExecError(
                "error calling index: index of untyped nil"
                if value is None
                else "error calling index: can't index item of type " + _kind(value)
            )
    return value


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, list | str):
        raise ExecError(f"error calling slice: can't slice item of type {_kind(value)}")
    numbers = [bound for bound in bounds if isinstance(bound, int)]
    if len(numbers) != len(bounds) or len(numbers) > 2:
        raise ExecError(f"error calling slice: too many slice indexes: {len(bounds)}")
    start = numbers[0] if numbers else 0
    end = numbers[1] if len(numbers) > 1 else len(value)
    for bound in (start, end):
        if not 0 <= bound <= len(value):
            raise ExecError(f"error calling slice: index out of range: {bound}")
    if start > end:
        raise ExecError(f"error calling slice: invalid slice index: {start} > {end}")
    return value[start:end]


def _same_kind(left: object, right: object) -> bool:
    def kind(value: object) -> str:
        if isinstance(value, bool):
            return "bool"
        if isinstance(value, int):
            return "int"
        return "nil" if value is None or isinstance(value, Nil) else type(value).__name__

    return kind(left) == kind(right)


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise ExecError("error calling eq: missing argument for comparison")
    for other in others:
        if not _same_kind(first, other) and not (first is None or other is None):
            raise ExecError("error calling eq: incompatible types for comparison")
        if first == other:
            return True
    return False


def _ordered(name: str) -> Callable[[object, object], bool]:
    def compare(left: object, right: object) -> bool:
        if not _same_kind(left, right):
            raise ExecError(f"error calling {name}: incompatible types for comparison")
        if not isinstance(left, int | float | str) or isinstance(left, bool):
            raise ExecError(f"error calling {name}: invalid type for comparison")
        less = left < right  # type: ignore[operator]  # of the same kind, as just checked
        return {"lt": less, "le": less or left == right, "gt": not less and left != right, "ge": not less}[name]

    return compare


def _strings(value: object) -> str:
    if not isinstance(value, str):
        raise ExecError(f"wrong type for value; expected string; got {_kind(value)}")
    return value


def _join(items: object, separator: object) -> str:
    if isinstance(items, Nil) or items is None:
        return ""
    if not isinstance(items, list):
        raise ExecError(f"error calling join: expected slice; found {text(items)}")
    return _strings(separator).join(text(item) for item in items)


def _print(*values: object) -> str:
    """Join as Go's Sprint: a blank between two values when neither is text."""
    out = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += text(value)
    return out


def _pad(value: object, before: object, after: object) -> str:
    shown = text(value)
    if not shown or not isinstance(before, int) or not isinstance(after, int):
        return shown
    return " " * before + shown + " " * after


def _truncate(value: object, length: object) -> str:
    shown = text(value)
    return shown[:length] if isinstance(length, int) else shown


def _title(value: object) -> str:
    """Make the first letter of each word a capital."""
    out = ""
    previous = " "
    for letter in _strings(value):
        out += letter.upper() if not (previous.isalnum() or previous in "_'") else letter
        previous = letter
    return out


FUNCTIONS: dict[str, Callable[..., object]] = {
    "eq": _equal,
    "ge": _ordered("ge"),
    "gt": _ordered("gt"),
    "html": lambda *values: (
        _print(*values)
        .replace("&", "&amp;")
        .replace("'", "&#39;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&#34;")
    ),
    "index": _index,
    "join": _join,
    "json": to_json,
    "le": _ordered("le"),
    "len": _length,
    "lower": lambda value: _strings(value).lower(),
    "lt": _ordered("lt"),
    "ne": lambda left, right: not _equal(left, right),
    "not": lambda value: not is_true(value),
    "pad": _pad,
    "print": _print,
    "printf": lambda first, *values: sprintf(_strings(first), list(values)),
    "println": lambda *values: " ".join(text(value) for value in values) + "\n",
    "slice": _slice,
    "split": lambda value, separator: list(_strings(value).split(_strings(separator))),
    "title": _title,
    "truncate": _truncate,
    "upper": lambda value: _strings(value).upper(),
}
# These look at their arguments one by one and stop early: the executor calls them itself.
LAZY = frozenset(("and", "or"))
NAMES = frozenset(FUNCTIONS) | LAZY
