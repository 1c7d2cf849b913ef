"""Variables in words: every form of the Dockerfile reference, and what strangers may write."""

import random
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxship.base.errors import InvalidInput
from boxship.spec.dockerfile.words import LIMIT, Variables, expand, expand_list

VALUES = {"x": "/a/b.tar.gz", "empty": "", "s": "aXbXc", "p": "X", "list": "1 2"}


@pytest.mark.row("BLD-14")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x ${x} $none ${none}.", "/a/b.tar.gz /a/b.tar.gz  ."),
        ("${none:-w} ${empty:-w} ${empty-w} ${none-w} ${s:-w}", "w w  w aXbXc"),
        ("${none:+w}|${empty:+w}|${empty+w}|${none+w}|${s:+w}", "||w||w"),
        ("${s:?no} ${empty?no}", "aXbXc "),
        ("${none:-${s:-y}} ${none:-a b}", "aXbXc a b"),
        ("${x#*/} ${x##*/} ${x%.*} ${x%%.*}", "a/b.tar.gz b.tar.gz /a/b.tar /a/b"),
        ("${s#a?} ${s%\\*} ${s#$p} ${s#a$p}", "bXc aXbXc aXbXc bXc"),
        ("${s/X/-} ${s//X/-} ${s//X*/-} ${s//?/z} ${x//\\//_}", "a-bXc a-b-c a- zzzzz _a_b.tar.gz"),
        ("${s/$p/$x}", "a/a/b.tar.gzbXc"),
        ("\\$x \\\\ \\a", "$x \\ a"),
        ('\'$x \\\' "$p \\" \\$p \\x"', '$x \\ X " $p \\x'),
        ("a\\", "a"),
        ("$", "$"),
        ("$1a$$", "a"),
    ],
)
def test_a_variable_is_replaced_as_the_reference_says(text: str, expected: str) -> None:
    assert expand(text, VALUES) == expected


def test_the_escape_character_can_be_another() -> None:
    assert expand("`$x \\$p", VALUES, escape="`") == "$x \\X"


def test_quotes_mean_nothing_in_a_heredoc() -> None:
    assert Variables(VALUES).text("'$p' \"$p\" \\$p") == "'X' \"X\" $p"


def test_unquoted_spaces_of_a_variable_divide_words() -> None:
    assert expand_list("$list '3 4' \"$list\" a\\ b", VALUES) == ["1", "2", "3 4", "1 2", "a b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${none:?say why}", "none: say why"),
        ("${none?}", "none: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${", "syntax error: missing '}'"),
        ("${x", "missing ':' in substitution"),
        ("${x:-", "syntax error: missing '}'"),
        ("${x/a}", "syntax error: missing '/' in ${}"),
        ("${x/a/b", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${x^}", "unsupported modifier (^) in substitution"),
        ("${x#\\a}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
        ("'", "unexpected end of statement while looking for matching single-quote"),
        ('"', "unexpected end of statement while looking for matching double-quote"),
        ("${a:-" * 100, "substitutions are nested too deeply"),
    ],
)
def test_a_word_that_means_nothing_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expand(text, VALUES)
    assert str(caught.value).endswith(f": {message}")


def test_variables_cannot_grow_without_limit() -> None:
    with pytest.raises(InvalidInput, match="longer than"):
        expand("$v$v$v", {"v": "a" * (LIMIT // 2)})
    with pytest.raises(InvalidInput, match="longer than"):
        expand("${v//a/bbbb}", {"v": "a" * LIMIT})


def test_missing_variables_are_remembered_unless_a_default_stands_in() -> None:
    missing: set[str] = set()
    expand("$a ${b} ${c:-d} ${e:+f} ${x} ${g#h}", VALUES, missing=missing)
    assert missing == {"a", "b", "g"}


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab$x{}:-+?#%/*\\'\" ", max_size=30), st.text(alphabet="abX/*", max_size=10))
def test_any_word_is_expanded_or_refused(text: str, value: str) -> None:
    try:
        expand(text, {"x": value, "a": value})
    except InvalidInput as exc:
        assert str(exc).startswith("failed to process ")


def test_patterns_match_as_in_a_shell() -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    chance = random.Random(5)  # the same words in each run
    words: list[tuple[str, str]] = []
    for number in range(600):
        form = ("#", "##", "%", "%%", "/", "//")[number % 6]
        characters = "ab." if "/" in form else "ab./"
        value = "".join(chance.choices(characters, k=chance.randint(1, 8)))
        pattern = "".join(chance.choices(f"{characters}*?", k=chance.randint(1, 4)))
        words.append((value, f"${{v{form}{pattern}{'/<>' if '/' in form else ''}}}"))
    script = "\n".join(f"v='{value}'; printf '%s\\n' \"{word}\"" for value, word in words)

    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\n")

    assert [(value, word, expand(word, {"v": value})) for value, word in words] == [
        (value, word, shell) for (value, word), shell in zip(words, said, strict=False)
    ]
