"""JSON for the command line without ``import json``, which costs 6 ms at start (it brings in ``re`` and ``enum``).

The scanner and encoder are the interpreter's own C functions, those that ``json`` itself wraps.
"""

from __future__ import annotations

from _json import encode_basestring, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHITESPACE = " \t\r\n"


class _ScannerOptions:
    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not a JSON value")


_scan = make_scanner(_ScannerOptions())  # type: ignore[arg-type]  # typeshed says make_scanner itself
_compact = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, True)


def loads(text: bytes | str) -> Any:
    """Return the value that ``text`` holds. Raises ValueError."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = text.strip(WHITESPACE)
    try:
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except (StopIteration, SystemError, RecursionError):
        pass  # SystemError: the C scanner finds its exception class only in an imported json.decoder
    import json  # not valid: let the full module say what is wrong

    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def dumps(value: object) -> str:
    """Return ``value`` as compact JSON; text that is not ASCII stays as it is."""
    return "".join(_compact(value, 0))


def indented(value: object, indent: str = "    ", margin: str = "") -> str:
    """Return ``value`` as Go's ``json.MarshalIndent`` lays it out: one member a line, empty ones as ``{}`` and ``[]``."""
    inner = margin + indent
    if isinstance(value, dict) and value:
        members = (f"{inner}{encode_basestring(key)}: {indented(item, indent, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(members) + f"\n{margin}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + indented(item, indent, inner) for item in value) + f"\n{margin}]"
    return dumps(value)
