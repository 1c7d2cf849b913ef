"""The arguments of an instruction before their meaning: flags, exec form, words, ``key=value``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_SPACE = re.compile(r"[\t\v\f\r ]+")


class Malformed(ValueError):
    """The arguments cannot even be told apart: Docker refuses the file as a whole."""


def split_keyword(line: str) -> tuple[str, str]:
    """Return an instruction's keyword as it is written and what stands behind it."""
    keyword, *rest = _SPACE.split(line.strip(), maxsplit=1)
    return keyword, rest[0].strip() if rest else ""


def split_flags(text: str) -> tuple[tuple[str, ...], str]:
    """Split ``--flags`` off the front of an instruction's arguments; quotes and escapes in them are removed. "--" ends them."""
    flags: list[str] = []
    position = 0
    while text.startswith("--", position):
        flag, quote, blank_is_one = [], "", False
        while position < len(text):
            character = text[position]
            if not quote and character.isspace():
                break
            position += 1
            if quote and character == quote:
                quote = ""
            elif not quote and character in "'\"":
                quote, blank_is_one = character, True
            elif character == "\\":
                flag.append(text[position : position + 1])
                position += 1
            else:
                flag.append(character)
        while text[position : position + 1].isspace():
            position += 1
        word = "".join(flag)
        if word == "--":
            break
        if word or blank_is_one:
            flags.append(word)
    return tuple(flags), text[position:].strip()


def exec_form(text: str) -> tuple[str, ...] | None:
    """Return the words of the exec form, None when it is none. What follows the list is ignored, as Docker does.

    Raises Malformed when it holds something else than strings.
    """
    if not text.startswith("["):
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise Malformed("when using JSON array syntax, arrays must be comprised of strings only")
    # Half a surrogate pair is no character; Go puts the replacement character there.
    return tuple(word.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for word in found)


def words(text: str, escape: str = "\\") -> list[str]:
    """Split at spaces that are neither quoted nor escaped; quotes and escapes are kept."""
    return list(_words(text, escape))


def _words(text: str, escape: str) -> Iterator[str]:
    start, quote, position = -1, "", 0
    while position < len(text):
        character = text[position]
        if start < 0 and not character.isspace():
            start = position
        position += 1
        if start < 0:
            continue
        if character == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character.isspace():
            yield text[start : position - 1]
            start = -1
    if start >= 0:
        yield text[start:]


def pairs(name: str, text: str, escape: str = "\\") -> tuple[tuple[tuple[str, str], ...], bool]:
    """Return the ``key=value`` arguments of ENV and LABEL, not expanded, and whether they have the old form ``key value``.

    Raises ValueError with Docker's words.
    """
    found = words(text, escape)
    if not found:
        raise ValueError(f"{name} requires at least one argument")
    if "=" not in found[0]:
        key, *rest = _SPACE.split(text, maxsplit=1)
        if not rest:
            raise Malformed(f"{name} must have two arguments")
        return ((key, rest[0].strip()),), True
    made = []
    for word in found:
        key, equals, value = word.partition("=")
        if not equals:
            raise Malformed(f"Syntax error - can't find = in {go_quoted(word)}. Must be of the form: name=value")
        if not key:
            raise ValueError(f"{name} names can not be blank")
        made.append((key, value))
    return tuple(made), False


def go_quoted(text: str) -> str:
    """Return ``text`` as Go's ``%q`` prints it."""
    return '"' + "".join(_go_escape(character) for character in text) + '"'


def _go_escape(character: str) -> str:
    named = {
        '"': '\\"',
        "\\": "\\\\",
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }
    if character in named:
        return named[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte that is not UTF-8
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
