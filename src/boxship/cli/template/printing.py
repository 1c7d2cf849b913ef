"""Values as Go's fmt prints them.

JSON's objects are structs or maps in Go: a mapping prints as ``map[a:1 b:2]`` by sorted keys, a :class:`Struct` as ``{1 2}``.
"""

from __future__ import annotations

from boxship.cli.quoting import go_quote


class Struct(dict[str, object]):
    """An object whose keys are the fields of a Go type, in their order."""


class Nil:
    """A Go nil of a known type; ``text`` is how fmt prints it. False, empty, and without fields."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


NO_VALUE = "<no value>"
SCIENTIFIC_FROM = 1e21  # Go's %v of a float64 turns to an exponent here and below 1e-4


def show(value: object) -> str:
    """Return ``value`` as ``{{value}}`` prints it."""
    return NO_VALUE if value is None else text(value)


def text(value: object) -> str:
    """Return ``value`` as ``%v``."""
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "<nil>"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, Nil):
        return value.text
    if isinstance(value, Struct):
        return "{" + " ".join(text(item) for item in value.values()) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(text(item) for item in value) + "]"
    return str(value)


def float_text(value: float) -> str:
    """Return a float as ``%v``: the shortest digits that mean it."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value != 0 and not 1e-4 <= abs(value) < SCIENTIFIC_FROM:
        mantissa, _, exponent = f"{value!r}".partition("e")
        if not exponent:
            mantissa, _, exponent = f"{value:.17e}".partition("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa.removesuffix('.0')}e{'-' if int(exponent) < 0 else '+'}{abs(int(exponent)):02}"
    if value == int(value):
        return str(int(value))
    plain = repr(value)
    return plain if "e" not in plain else f"{value:.20f}".rstrip("0")


def sprintf(format: str, arguments: list[object]) -> str:
    """Return Go's ``Sprintf``; wrong or missing arguments show as ``%!d(string=x)`` and ``%!d(MISSING)``."""
    out = []
    at = 0
    used = 0
    while at < len(format):
        letter = format[at]
        at += 1
        if letter != "%":
            out.append(letter)
            continue
        start = at
        while at < len(format) and format[at] in "+-# 0123456789.":
            at += 1
        if at >= len(format):
            out.append("%!(NOVERB)")
            break
        flags, verb = format[start:at], format[at]
        at += 1
        if verb == "%":
            out.append("%")
        elif used >= len(arguments):
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_pad(_verb(verb, flags, arguments[used]), flags))
            used += 1
    if used < len(arguments):
        extra = ", ".join(f"{type_name(item)}={text(item)}" for item in arguments[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _verb(verb: str, flags: str, value: object) -> str:
    precision = flags.partition(".")[2] if "." in flags else ""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if verb == "v":
        return text(value)
    if verb == "s" and not isinstance(value, int | float | bool):
        shown = text(value)
        return shown[: int(precision)] if precision else shown
    if verb == "q" and isinstance(value, str):
        return go_quote(value)
    if verb == "t" and isinstance(value, bool):
        return text(value)
    if verb in "dxXobc" and whole:
        assert isinstance(value, int)
        number = chr(value) if verb == "c" else format(value, verb)
        return f"+{number}" if "+" in flags and value >= 0 else number
    if verb in "feg" and isinstance(value, float):
        return format(value, f".{precision or 6}{verb}") if verb != "g" or precision else float_text(value)
    if verb in "xX" and isinstance(value, str):
        return format(int.from_bytes(value.encode()), verb) if value else ""
    return f"%!{verb}({type_name(value)}={text(value)})"


def _pad(shown: str, flags: str) -> str:
    width = flags.partition(".")[0].lstrip("+-# ")
    zeros = width.startswith("0")
    size = int(width or 0)
    if "-" in flags:
        return shown.ljust(size)
    if zeros:
        sign = shown[:1] if shown[:1] in ("+", "-") else ""
        return sign + shown[len(sign) :].rjust(size - len(sign), "0")
    return shown.rjust(size)


def type_name(value: object) -> str:
    """Return the name of the Go type that holds ``value``."""
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((str, "string"), (int, "int"), (float, "float64"), (list, "[]interface {}")):
        if isinstance(value, kind):
            return name
    return "nil" if value is None else "map[string]interface {}"
