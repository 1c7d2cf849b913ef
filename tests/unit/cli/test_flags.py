"""Flags as pflag reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.cli.flags import FILTER, Flag, FlagError, Values, parse, parse_bool, parse_number

FLAGS = (
    Flag("detach", "bool", short="d"),
    Flag("interactive", "bool", short="i"),
    Flag("tty", "bool", short="t"),
    Flag("name", "string", short="n"),
    Flag("env", "list", short="e"),
    Flag("alias", "strings"),
    Flag("count", "int", short="c", default=-1),
    Flag("weight", "uint16"),
    FILTER,
)


def read(*words: str, interspersed: bool = True) -> Values:
    return parse(FLAGS, words, interspersed=interspersed, synonyms={"nickname": "name"})


@pytest.mark.row("RUN-04", "CLI-02")
@pytest.mark.parametrize(
    "words",
    [
        ("-it", "--name", "x", "a"),
        ("-ti", "--name=x", "a"),
        ("-itnx", "a"),
        ("-it", "-n=x", "a"),
        ("-itn", "x", "a"),
        ("a", "--interactive", "--tty=true", "--nickname", "x"),
        ("-i=true", "-t=1", "-nx", "--", "a"),
    ],
)
def test_one_meaning_has_many_spellings(words) -> None:
    values = read(*words)
    assert values.is_set("interactive")
    assert values.is_set("tty")
    assert not values.is_set("detach")
    assert values.text("name") == "x"
    assert values.arguments == ["a"]


@pytest.mark.row("CLI-02")
def test_flags_end_at_the_first_argument_where_a_command_follows() -> None:
    values = read("-e", "A=1", "image", "-it", "--name", "x", interspersed=False)
    assert (values.many("env"), values.arguments) == (["A=1"], ["image", "-it", "--name", "x"])


def test_two_dashes_end_flags_and_one_dash_is_an_argument() -> None:
    assert read("-", "--", "--name", "-d").arguments == ["-", "--name", "-d"]


def test_repeated_flags_collect_and_defaults_give_way() -> None:
    values = read("-e", "A=1", "--env", "B=2", "--alias", "a,b", "--alias=c")
    assert values.many("env") == ["A=1", "B=2"]
    assert values.many("alias") == ["a", "b", "c"]
    assert values.number("count") == -1
    assert values.changed == {"env", "alias"}


def test_filters_are_grouped_by_name() -> None:
    assert read("-f", "Label=a=b", "-f", "label=c", "-f", "status=x").filters() == {
        "label": ["a=b", "c"],
        "status": ["x"],
    }


@pytest.mark.row("CLI-08")
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--bogus",), "unknown flag: --bogus"),
        (("-dz",), "unknown shorthand flag: 'z' in -z"),
        (("-zd",), "unknown shorthand flag: 'z' in -zd"),
        (("--name",), "flag needs an argument: --name"),
        (("-dn",), "flag needs an argument: 'n' in -n"),
        (("--=x",), "bad flag syntax: --=x"),
        (("---x",), "bad flag syntax: ---x"),
        (
            ("--detach=maybe",),
            'invalid argument "maybe" for "-d, --detach" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (("-cx",), 'invalid argument "x" for "-c, --count" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (
            ("--weight", "70000"),
            'invalid argument "70000" for "--weight" flag: strconv.ParseUint: parsing "70000": value out of range',
        ),
        (
            ("--weight", "-1"),
            'invalid argument "-1" for "--weight" flag: strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        (("-f", "x"), 'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)'),
    ],
)
def test_what_cannot_be_read_is_said_in_pflags_words(words, problem) -> None:
    with pytest.raises(FlagError) as caught:
        read(*words)
    assert str(caught.value) == problem


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        values = read(*words)
    except FlagError:
        return
    assert len(values.arguments) <= len(words)


@pytest.mark.parametrize(("text", "number"), [("0x10", 16), ("010", 8), ("0o10", 8), ("-5", -5), ("1_000", 1000)])
def test_numbers_are_gos(text, number) -> None:
    assert parse_number(text, "int") == number


def test_truth_is_gos() -> None:
    assert [parse_bool(text) for text in ("1", "T", "TRUE", "0", "False")] == [True, True, True, False, False]
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_bool("yes")
