"""References: whatever is typed is either refused in one way or means one thing."""

import re

from hypothesis import given
from hypothesis import strategies as st

from boxship.images.reference import InvalidReference, parse

COMPONENT = st.from_regex(re.compile(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,3}", re.ASCII), fullmatch=True)
DOMAIN = st.sampled_from(["localhost", "localhost:5000", "example.com", "EXAMPLE.com:1", "[::1]:80", "a-b.c"])
TAG = st.from_regex(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", re.ASCII), fullmatch=True)
DIGEST = st.from_regex(re.compile(r"sha256:[0-9a-f]{64}"), fullmatch=True)


@st.composite
def references(draw: st.DrawFn) -> str:
    text = f"{draw(DOMAIN)}/" + "/".join(draw(st.lists(COMPONENT, min_size=1, max_size=4)))
    if draw(st.booleans()):
        text = draw(COMPONENT)
    if draw(st.booleans()):
        text += f":{draw(TAG)}"
    if draw(st.booleans()):
        text += f"@{draw(DIGEST)}"
    return text


@given(references())
def test_full_and_familiar_form_mean_the_same(text: str) -> None:
    found = parse(text)
    assert parse(str(found)) == found
    assert parse(found.familiar) == found


@given(st.one_of(st.text(), st.text(alphabet="aA0./:@_-[]sha256\n "), st.binary().map(lambda b: b.decode("latin-1"))))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except InvalidReference:
        return
    assert parse(str(found)) == found
    assert "\n" not in str(found)
    assert ".." not in found.path.split("/")
