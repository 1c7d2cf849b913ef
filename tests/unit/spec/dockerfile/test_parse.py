"""Dockerfiles as text: lines, heredocs, directives, flags, and every refusal that a real Docker gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxship.spec.docker.container import HealthConfig
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.errors import DockerfileError
from boxship.spec.dockerfile.instructions import Instruction
from boxship.spec.dockerfile.parse import parse


def only(text: str) -> Instruction:
    (_, found) = parse(f"FROM bb\n{text}".encode()).instructions
    return found


def test_lines_are_joined_and_comments_inside_them_dropped() -> None:
    found = only("  run echo \\\n  # no\n\n  hi \\\t\n there\n")
    assert isinstance(found, instructions.Run)
    assert found.source.keyword == "RUN"
    assert found.source.text == "run echo   hi  there"
    assert (found.source.line, found.source.end_line) == (2, 6)
    assert found.command.words == ("echo   hi  there",)


def test_an_escaped_escape_at_the_end_joins_no_lines() -> None:
    assert len(parse(b"FROM bb\nRUN echo \\\\\nRUN x\n").instructions) == 3


@pytest.mark.row("BLD-25")
def test_directives_stand_before_everything_else() -> None:
    file = parse(b"\xef\xbb\xbf# Syntax = docker/dockerfile:1\r\n#escape=`\r\n# check=skip=all\nFROM bb\nRUN a `\n b\n")
    assert (file.syntax, file.escape, file.check) == ("docker/dockerfile:1", "`", "skip=all")
    assert len(file.instructions) == 2
    late = parse(b"# comment\n# escape=`\nFROM bb\n")
    assert late.escape == "\\"


@pytest.mark.row("BLD-10")
def test_heredocs_are_read_up_to_their_names() -> None:
    found = only("RUN <<A cat <<-'B'\n  $x\n# kept\nA\n\ttab\n\tB\nRUN x\n".replace("RUN x\n", ""))
    assert isinstance(found, instructions.Run)
    first, second = found.heredocs
    assert (first.name, first.data, first.expand, first.chomp) == ("A", "  $x\n# kept\n", True, False)
    assert (second.name, second.text, second.expand, second.chomp) == ("B", "tab\n", False, True)
    assert found.source.end_line == 7


def test_a_shift_operator_is_no_heredoc() -> None:
    found = only('RUN echo $((1<<2)) "<<A" cat<<B\n')
    assert isinstance(found, instructions.Run)
    assert found.heredocs == ()


def test_copy_takes_heredocs_between_files() -> None:
    found = only("COPY a <<E b /x/\nhi\nE\n")
    assert isinstance(found, instructions.Copy)
    assert found.sources == ("a", "b")
    assert [file.name for file in found.files] == ["E"]


@pytest.mark.row("BLD-11")
def test_flags_of_copy_and_add_are_read() -> None:
    found = only(
        'COPY --from=x --chown=1:2 --chmod=u+x --link --parents --exclude=*.a --exclude=\'b c\' ["a b", "/x"]\n'
    )
    assert isinstance(found, instructions.Copy)
    assert (found.origin, found.chown, found.chmod) == ("x", "1:2", "u+x")
    assert (found.link, found.parents, found.exclude, found.sources) == (True, True, ("*.a", "b c"), ("a b",))
    add = only("ADD --checksum=c --keep-git-dir=false --unpack=true a b\n")
    assert isinstance(add, instructions.Copy)
    assert (add.checksum, add.keep_git_dir, add.unpack, add.add) == ("c", False, True, True)


@pytest.mark.row("BLD-22")
def test_a_health_check_has_times() -> None:
    found = only(
        'HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --start-interval=1s --retries=3 CMD ["a"]\n'
    )
    assert isinstance(found, instructions.Healthcheck)
    assert found.check == HealthConfig(
        test=["CMD", "a"],
        interval=90 * 10**9,
        timeout=500 * 10**6,
        start_period=2 * 10**9,
        start_interval=10**9,
        retries=3,
    )


def test_what_follows_the_exec_form_is_ignored_as_docker_does() -> None:
    found = only('CMD ["a", "\\u00e9"] b\n')
    assert isinstance(found, instructions.Cmd)
    assert (found.command.words, found.command.is_exec) == (("a", "é"), True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("# x\n", "failed to parse Dockerfile: file with no instructions"),
        ("FROM bb\nBOGUS x\n", "dockerfile parse error line 2: unknown instruction: BOGUS"),
        ("FROM bb\nCOPPY x\n", "dockerfile parse error line 2: unknown instruction: COPPY (did you mean COPY?)"),
        ("FROM bb\nENV\n", "dockerfile parse error line 2: ENV requires at least one argument"),
        ("FROM bb\nENV A\n", "failed to parse Dockerfile: ENV must have two arguments"),
        (
            "FROM bb\nENV A=b c\n",
            'failed to parse Dockerfile: Syntax error - can\'t find = in "c". Must be of the form: name=value',
        ),
        ("FROM bb\nENV =x\n", "dockerfile parse error line 2: ENV names can not be blank"),
        ("FROM bb\nLABEL a\n", "failed to parse Dockerfile: LABEL must have two arguments"),
        (
            "FROM bb\nCOPY a\n",
            "dockerfile parse error line 2: COPY requires at least two arguments, but only one was provided."
            " Destination could not be determined",
        ),
        ("FROM bb\nCOPY --bogus=1 a /\n", "dockerfile parse error line 2: Unknown flag: bogus"),
        ("FROM bb\nCOPY --chwon=1 a /\n", "dockerfile parse error line 2: Unknown flag: chwon (did you mean chown?)"),
        ("FROM bb\nCOPY --chown a /\n", "dockerfile parse error line 2: Missing a value on flag: chown"),
        (
            "FROM bb\nCOPY --link=x a /\n",
            "dockerfile parse error line 2: Expecting boolean value for flag link, not: x",
        ),
        ("FROM bb\nCOPY --link --link a /\n", "dockerfile parse error line 2: Duplicate flag specified: link"),
        (
            "FROM bb\nCMD [1]\n",
            "failed to parse Dockerfile: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("FROM bb\nSHELL x\n", "dockerfile parse error line 2: SHELL requires the arguments to be in JSON form"),
        ("FROM bb\nARG\n", "dockerfile parse error line 2: ARG requires at least one argument"),
        ("FROM bb\nARG =x\n", "dockerfile parse error line 2: ARG names can not be blank"),
        (
            "FROM bb AS 1x\n",
            'dockerfile parse error line 1: invalid name for build stage: "1x", name can\'t start with a number'
            " or contain symbols",
        ),
        ("FROM bb\nWORKDIR\n", "dockerfile parse error line 2: WORKDIR requires exactly one argument"),
        (
            "FROM bb\nHEALTHCHECK --interval=1us CMD x\n",
            'dockerfile parse error line 2: Interval "interval" cannot be less than 1ms',
        ),
        (
            "FROM bb\nHEALTHCHECK --retries=0 CMD x\n",
            "dockerfile parse error line 2: --retries must be at least 1 (not 0)",
        ),
        (
            "FROM bb\nHEALTHCHECK --retries=x CMD x\n",
            'dockerfile parse error line 2: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        ("FROM bb\nHEALTHCHECK NONE x\n", "dockerfile parse error line 2: HEALTHCHECK NONE takes no arguments"),
        ("FROM bb\nVOLUME []\n", "dockerfile parse error line 2: VOLUME requires at least one argument"),
        ('FROM bb\nVOLUME [""]\n', "dockerfile parse error line 2: VOLUME specified can not be an empty string"),
        ("FROM bb\nONBUILD FROM x\n", "dockerfile parse error line 2: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM bb\nONBUILD\n", "dockerfile parse error line 2: ONBUILD requires at least one argument"),
        ("# escape=x\nFROM bb\n", "failed to parse Dockerfile: invalid escape token 'x' does not match ` or \\"),
        (
            "# escape=`\n# escape=`\nFROM b\n",
            "failed to parse Dockerfile: only one escape parser directive can be used",
        ),
        ("FROM bb\nRUN <<E\nx\n", "failed to parse Dockerfile: unterminated heredoc"),
        ("FROM bb\nRUN --security=x y\n", 'dockerfile parse error line 2: security "x" is not valid'),
    ],
)
@pytest.mark.row("BLD-25")
def test_a_bad_file_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text.encode())
    assert str(caught.value) == message


def test_a_file_cannot_be_without_end() -> None:
    with pytest.raises(DockerfileError, match="failed to parse Dockerfile: more than 4096 instructions"):
        parse(b"FROM bb\n" * 4097)
    with pytest.raises(DockerfileError, match="failed to parse Dockerfile: longer than"):
        parse(b"#\n" * (3 << 20))


@pytest.mark.row("BLD-09")
def test_a_comment_behind_from_is_refused_with_a_hint() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(b"FROM nginx:1.10.2-alpine #base image to start with\nMAINTAINER me\n")
    assert str(caught.value).startswith("dockerfile parse error line 1: FROM requires either one or three arguments")
    assert "a comment must stand on a line of its own" in str(caught.value)
    assert caught.value.line == 1


def test_an_error_shows_its_lines_with_a_caret() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(b"FROM bb\n  BOGUS x\nRUN y\n", "Other")
    assert caught.value.excerpt.splitlines() == [
        "Other:2",
        "--------------------",
        "   1 |     FROM bb",
        "   2 | >>>   BOGUS x",
        "     |       ^^^^^",
        "   3 |     RUN y",
        "--------------------",
    ]


_WORDS = [
    "FROM",
    "RUN",
    "copy",
    "ADD",
    "ENV",
    "LABEL",
    "ARG",
    "CMD",
    "HEALTHCHECK",
    "ONBUILD",
    "SHELL",
    "VOLUME",
    "EXPOSE",
]
_PIECES = [
    *_WORDS,
    "bb",
    " ",
    "\n",
    "\\\n",
    "--from=",
    "--mount=type=",
    "<<E",
    "\nE\n",
    "[",
    '"a"',
    "]",
    "=",
    "'",
    "#",
    "$x",
    "\t",
    "\r\n",
]


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60), st.lists(st.sampled_from(_PIECES), max_size=25).map(lambda it: "".join(it).encode())
    )
)
def test_any_bytes_are_a_dockerfile_or_a_dockerfile_error(data: bytes) -> None:
    try:
        file = parse(data)
    except DockerfileError:
        return
    # Written out as one line each and read again, the file says the same.
    text = "".join(_formatted(each) for each in file.instructions)
    again = parse(f"# escape={file.escape}\n{text}".encode("utf-8", "surrogateescape"))
    assert [_meaning(each) for each in again.instructions] == [_meaning(each) for each in file.instructions]


def _formatted(instruction: Instruction) -> str:
    line = instruction.source
    return line.text + "\n" + "".join(f"{each.data}{each.name}\n" for each in line.heredocs)


def _meaning(instruction: Instruction) -> object:
    line = instruction.source
    fields = {name: getattr(instruction, name) for name in instruction.__struct_fields__ if name != "source"}
    return type(instruction), line.keyword, line.flags, line.arguments, line.heredocs, fields
