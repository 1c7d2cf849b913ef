import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.api import query
from boxship.base.errors import InvalidInput


@pytest.mark.parametrize("text", ["", "0", "no", "false", "none", "FALSE", " None "])
def test_what_docker_takes_for_false(text):
    assert query.boolean(text) is False


@pytest.mark.parametrize("text", ["1", "true", "yes", "2", "x"])
def test_all_else_is_true(text):
    assert query.boolean(text) is True


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-1", -1), ("+5", 5), ("10", 10)])
def test_integers(text, value):
    assert query.integer(text) == value


@pytest.mark.parametrize("text", ["abc", "1.5", "", "1_0", "٣", "9" * 30])
def test_bad_integers_name_themselves(text):
    with pytest.raises(InvalidInput, match=r"strconv\.Atoi: parsing"):
        query.integer(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("0", 0),
        ("12", 12_000_000_000),
        ("1.5", 1_500_000_000),
        ("1.000000001", 1_000_000_001),
        ("-1", -(10**9)),
    ],
)
def test_timestamps(text, value):
    assert query.timestamp(text) == value


@pytest.mark.parametrize("text", ["abc", "1.", "2020-01-01", "1.1234567890", "1e3"])
def test_bad_timestamps(text):
    with pytest.raises(InvalidInput, match=r"strconv.ParseInt: parsing .*: invalid syntax"):
        query.timestamp(text)


@pytest.mark.parametrize(("text", "value"), [("all", -1), ("", -1), ("5", 5), ("0", 0), ("x", -1), ("-3", -1)])
def test_tail(text, value):
    assert query.tail(text) == value


@pytest.mark.row("API-20")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("{}", {}),
        ('{"label":["a=b","c"]}', {"label": ["a=b", "c"]}),
        ('{"label":{"a=b":true,"c":false}}', {"label": ["a=b"]}),
        ('{"label":[]}', {}),
        ('{"label":null}', {}),
    ],
)
def test_filters_of_both_forms(text, value):
    assert query.filters(text) == value


@pytest.mark.row("API-20")
@pytest.mark.parametrize("text", ["x", "[]", '{"a":"b"}', '{"a":[1]}', '{"a":{"b":1}}', "[" * 100_000, "null"])
def test_filters_of_another_form_are_refused(text):
    with pytest.raises(InvalidInput, match=r"^invalid filter$"):
        query.filters(text)


@given(st.dictionaries(st.text(), st.lists(st.text(), min_size=1)))
def test_filters_survive_the_way_through_json(value):
    assert query.filters(msgspec.json.encode(value).decode()) == value


@given(st.text())
def test_no_text_breaks_the_parsers(text):
    for parser in (query.filters, query.timestamp, query.integer, query.parse_query):
        try:
            parser(text)
        except InvalidInput:
            pass
    query.tail(text)
    query.boolean(text)
