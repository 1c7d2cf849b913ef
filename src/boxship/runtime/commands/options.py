"""Command-line options from a table; pure. Written by hand, since this program's start-up counts."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FLAG = 0  # present or not
VALUE = 1  # the last one counts
LIST = 2  # may be repeated


class UsageError(Exception):
    """The command line is wrong."""


class Options:
    """What was given: flags, values, lists by their long names, and the arguments that are not options."""

    __slots__ = ("_values", "args")

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.args: list[str] = []

    def add(self, name: str, value: str) -> None:
        """Record one use of option ``name``."""
        self._values.setdefault(name, []).append(value)

    def flag(self, name: str) -> bool:
        """Tell whether ``--name`` was given (and not as ``--name=false``)."""
        return self._values.get(name, ["false"])[-1] != "false"

    def value(self, name: str, default: str = "") -> str:
        """Return the last value of ``--name``."""
        return self._values.get(name, [default])[-1]

    def values(self, name: str) -> list[str]:
        """Return all values of ``--name``."""
        return self._values.get(name, [])


def parse(argv: list[str], table: "Mapping[str, int]", *, stop_at_argument: bool = False) -> Options:
    """Parse ``argv`` by ``table``: names such as ``"bundle b"`` (long, then short ones) to FLAG, VALUE or LIST.

    One or two dashes are the same, as in Go's programs. ``--`` ends the options, ``stop_at_argument`` has the first
    argument do so too: what follows belongs to somebody else. Raises UsageError.
    """
    names = {name: (spelled.split()[0], kind) for spelled, kind in table.items() for name in spelled.split()}
    options = Options()
    rest = iter(argv)
    for word in rest:
        if word == "--":
            options.args.extend(rest)
        elif word.startswith("-") and word != "-":
            spelled, equals, value = word.lstrip("-").partition("=")
            if spelled not in names:
                raise UsageError(f"flag provided but not defined: -{spelled}")
            name, kind = names[spelled]
            if kind == FLAG:
                value = value if equals else "true"
            elif not equals:
                try:
                    value = next(rest)
                except StopIteration:
                    raise UsageError(f"flag needs an argument: -{spelled}") from None
            options.add(name, value)
        else:
            options.args.append(word)
            if stop_at_argument:
                options.args.extend(rest)
    return options
