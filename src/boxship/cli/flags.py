"""Command-line flags: one row each, parsed as pflag does it, so that every spelling Docker takes is taken here.

Long flags ``--name value``, ``--name=value``; short ones in clusters (``-it``, ``-p80:80``, ``-n=3``); boolean ones take a value
only after ``=``; ``--`` ends them. Flags may follow arguments unless the command says otherwise (run, create, exec: what
follows the image or container belongs to the command there).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPEATED = frozenset(
    ("list", "strings", "filter", "map", "mount", "network", "ulimit", "gpu-request", "stringToString")
)
NUMBERS = {"int": "ParseInt", "int64": "ParseInt", "uint16": "ParseUint", "uint": "ParseUint", "uint64": "ParseUint"}
LIMITS = {"uint16": (0, 2**16 - 1), "uint": (0, 2**64 - 1), "uint64": (0, 2**64 - 1)}
TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class FlagError(Exception):
    """A flag that does not exist, lacks its value or cannot take it; the text is pflag's."""


class Flag:
    """One flag: ``type`` is the word that help shows and decides how values are read; ``bool`` shows none.

    ``check`` turns the text of a value into what the command gets (ValueError refuses it); ``shown`` is the default in
    help; a ``deprecated`` flag is hidden and its use prints that text.
    """

    __slots__ = ("check", "default", "deprecated", "help", "hidden", "long", "short", "shown", "since", "type")

    def __init__(
        self,
        long: str,
        type: str,
        help: str = "",
        *,
        short: str = "",
        default: object = None,
        shown: str = "",
        check: Callable[[str], object] | None = None,
        hidden: bool = False,
        deprecated: str = "",
        since: str = "",
    ) -> None:
        self.long = long
        self.short = short
        self.type = type
        self.help = help
        self.default = default
        self.shown = shown
        self.check = check
        self.hidden = hidden or bool(deprecated)
        self.deprecated = deprecated
        self.since = since  # API version that the engine must speak

    @property
    def names(self) -> str:
        """How messages call the flag: ``-m, --memory`` or ``--name``."""
        return f"-{self.short}, --{self.long}" if self.short else f"--{self.long}"

    def read(self, text: str) -> object:
        """Return the value of ``text``. Raises FlagError in pflag's words."""
        try:
            if self.check is not None:
                return self.check(text)
            if self.type == "bool":
                return parse_bool(text)
            if self.type in NUMBERS:
                return parse_number(text, self.type)
        except ValueError as exc:
            raise FlagError(f'invalid argument "{text}" for "{self.names}" flag: {exc}') from exc
        return text


_FORMAT_HELP = """{}'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"""
_TABLE_HELP = """'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
"""

HELP_FLAG = Flag("help", "bool", "Print usage", hidden=True)
TABLE_FORMAT = Flag("format", "string", "Format output using a custom template:\n" + _FORMAT_HELP.format(_TABLE_HELP))
JSON_FORMAT = Flag("format", "string", "Format output using a custom template:\n" + _FORMAT_HELP.format(""), short="f")
FORCE = Flag("force", "bool", "Do not prompt for confirmation", short="f")


def check_filter(text: str) -> str:
    """Return a filter ``name=value`` with its name in lower case."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return f"{name.strip().lower()}={value.strip()}"


FILTER = Flag("filter", "filter", "Filter output based on conditions provided", short="f", check=check_filter)


def parse_bool(text: str) -> bool:
    """Return the truth value of ``text`` as Go's ``strconv.ParseBool``."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_number(text: str, type: str) -> int:
    """Return the integer ``text`` as Go's ``strconv.ParseInt`` with base 0."""
    function = NUMBERS[type]
    low, high = LIMITS.get(type, (-(2**63), 2**63 - 1))
    try:
        digits = text.lstrip("+-")
        # Go takes the old octal spelling 010, Python only 0o10.
        number = int(text, 8 if len(digits) > 1 and digits[0] == "0" and digits.isdecimal() else 0)
        if text != text.strip() or (low == 0 and text[0] in "+-"):
            raise ValueError
    except ValueError:
        raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax') from None
    if not low <= number <= high:
        raise ValueError(f'strconv.{function}: parsing "{text}": value out of range')
    return number


class Values:
    """What the command line gave: a value for each flag (its default where none was given) and the arguments."""

    __slots__ = ("_values", "arguments", "changed", "notices")

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.changed: set[str] = set()
        self.arguments: list[str] = []
        self.notices: list[str] = []
        self._values: dict[str, object] = {flag.long: _default(flag) for flag in flags}

    def set(self, flag: Flag, text: str) -> None:
        """Give ``flag`` the value that ``text`` says, or one more for flags that repeat."""
        value = flag.read(text)
        if flag.type in REPEATED:
            if flag.long not in self.changed:
                self._values[flag.long] = []
            held = self._values[flag.long]
            assert isinstance(held, list)
            if flag.type == "strings":
                held.extend(text.split(","))
            else:
                held.append(value)
        else:
            self._values[flag.long] = value
        self.changed.add(flag.long)
        if flag.deprecated:
            self.notices.append(f"Flag --{flag.long} has been deprecated, {flag.deprecated}")

    def among(self, flags: Sequence[Flag]) -> Values:
        """Return the same values beside the defaults of more ``flags``, for a command that calls another one."""
        found = Values(flags)
        found._values.update(self._values)
        found.changed |= self.changed
        found.arguments = self.arguments
        return found

    def text(self, name: str) -> str:
        """Return the value of a flag that holds text."""
        value = self._values[name]
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        """Return the value of a flag that holds an integer."""
        value = self._values[name]
        assert isinstance(value, int)
        return value

    def is_set(self, name: str) -> bool:
        """Return the value of a boolean flag."""
        return self._values[name] is True

    def many(self, name: str) -> list[str]:
        """Return all values of a flag that repeats."""
        value = self._values[name]
        assert isinstance(value, list)
        return value

    def filters(self, name: str = "filter") -> dict[str, list[str]]:
        """Return the values of a filter flag by filter name."""
        found: dict[str, list[str]] = {}
        for item in self.many(name):
            key, _, value = item.partition("=")
            found.setdefault(key, []).append(value)
        return found

    def value(self, name: str) -> object:
        """Return the value as the flag's ``check`` left it."""
        return self._values[name]


def _default(flag: Flag) -> object:
    if flag.default is not None:
        return flag.default
    if flag.type == "bool":
        return False
    if flag.type in REPEATED:
        return []
    if flag.type in NUMBERS or flag.type in ("bytes", "duration", "decimal"):
        return 0
    return ""


def parse(
    flags: Sequence[Flag], words: Sequence[str], *, interspersed: bool = True, synonyms: Mapping[str, str] | None = None
) -> Values:
    """Read ``words`` (without the command's name); ``synonyms`` are other long names (``net`` for ``network``).

    Raises FlagError.
    """
    values = Values(flags)
    by_long = {flag.long: flag for flag in flags}
    by_short = {flag.short: flag for flag in flags if flag.short}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            values.arguments.extend(words[position:])
            break
        if word.startswith("--"):
            position += _parse_long(word, words[position:], by_long, values, synonyms or {})
        elif word.startswith("-") and len(word) > 1:
            position += _parse_cluster(word, words[position:], by_short, values)
        elif interspersed:
            values.arguments.append(word)
        else:
            values.arguments.extend(words[position - 1 :])
            break
    return values


def _parse_long(
    word: str, rest: Sequence[str], by_long: Mapping[str, Flag], values: Values, synonyms: Mapping[str, str]
) -> int:
    """Read one long flag; return how many of the following words it took."""
    name, equals, text = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise FlagError(f"bad flag syntax: {word}")
    flag = by_long.get(synonyms.get(name, name))
    if flag is None:
        raise FlagError(f"unknown flag: --{name}")
    if equals:
        values.set(flag, text)
    elif flag.type == "bool":
        values.set(flag, "true")
    elif rest:
        values.set(flag, rest[0])
        return 1
    else:
        raise FlagError(f"flag needs an argument: --{name}")
    return 0


def _parse_cluster(word: str, rest: Sequence[str], by_short: Mapping[str, Flag], values: Values) -> int:
    """Read one word of short flags; return how many of the following words it took."""
    letters = word[1:]
    while letters:
        letter, after = letters[0], letters[1:]
        flag = by_short.get(letter)
        if flag is None:
            raise FlagError(f"unknown shorthand flag: '{letter}' in -{letters}")
        if len(after) > 1 and after[0] == "=":
            values.set(flag, after[1:])
            return 0
        if flag.type == "bool":
            values.set(flag, "true")
            letters = after
            continue
        if after:
            values.set(flag, after)
            return 0
        if not rest:
            raise FlagError(f"flag needs an argument: '{letter}' in -{letters}")
        values.set(flag, rest[0])
        return 1
    return 0
