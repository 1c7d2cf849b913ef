import pytest

from boxship.wire import detachkeys


@pytest.mark.row("RUN-05")
@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,ctrl-[", b"a\x1b"),
        ("ctrl-@,ctrl-a,ctrl-z,ctrl-\\,ctrl-],ctrl-^,ctrl-_,DEL", b"\x00\x01\x1a\x1c\x1d\x1e\x1f\x7f"),
        ("A,-", b"A-"),
    ],
)
def test_keys_are_parsed(text, keys):
    assert detachkeys.parse(text) == keys


@pytest.mark.parametrize(
    ("text", "key"), [("ctrl-A", "ctrl-A"), ("a,,b", ""), ("ctrl-1", "ctrl-1"), ("é", "é"), ("del", "del")]
)
def test_an_unknown_key_is_named(text, key):
    with pytest.raises(detachkeys.UnknownKeyError, match=f"Unknown character: '{key}'"):
        detachkeys.parse(text)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"ab"], b"ab", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10\x10\x11", False),
        ([b"\x10", b"\x10", b"\x11", b"\x10", b"\x11"], b"\x10\x10\x11", True),
        ([b"a\x10"], b"a", False),
    ],
)
def test_the_matcher_passes_on_what_is_no_key(typed, passed, detached):
    matcher = detachkeys.Matcher(detachkeys.DEFAULT)
    results = [matcher.feed(piece) for piece in typed]
    assert b"".join(piece for piece, _ in results) == passed
    assert results[-1][1] is detached


def test_the_matcher_gives_back_a_beginning_at_the_end():
    matcher = detachkeys.Matcher(b"abc")
    assert matcher.feed(b"xab") == (b"x", False)
    assert matcher.finish() == b"ab"
    assert matcher.finish() == b""


def test_no_keys_detach_never():
    assert detachkeys.Matcher(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
