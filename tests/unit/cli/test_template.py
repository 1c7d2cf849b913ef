"""Go's text/template as far as ``--format`` needs it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.cli.template.errors import ExecError, ParseError
from boxship.cli.template.execute import Template
from boxship.cli.template.printing import Nil, Struct, float_text, sprintf, text

DATA = {
    "Name": "/web",
    "N": 7,
    "F": 1.5,
    "Yes": True,
    "No": False,
    "Null": None,
    "List": ["a", "b"],
    "Map": {"y": 2, "x": 1},
    "Deep": {"Er": {"Est": "z"}},
    "Ports": {"80/tcp": [{"HostPort": "8080"}]},
    "Empty": [],
}


@pytest.mark.row("CLI-15")
@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("plain", "plain"),
        ("{{.Name}} {{.N}} {{.F}} {{.Yes}}", "/web 7 1.5 true"),
        ('{{.Deep.Er.Est}} {{(index .Ports "80/tcp")}}', "z [map[HostPort:8080]]"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{index .Ports "80/tcp" 0 "HostPort"}}', "8080"),
        ("{{.List}} {{.Map}} {{.Null}} {{.Empty}}", "[a b] map[x:1 y:2] <no value> []"),
        ("{{if .Yes}}a{{else}}b{{end}}{{if .No}}a{{else if .N}}c{{else}}b{{end}}", "ac"),
        ("{{with .Deep}}{{.Er.Est}}{{end}}{{with .Null}}x{{else}}y{{end}}", "zy"),
        ("{{range .List}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}", "<a><b>none"),
        ("{{range $i, $v := .List}}{{$i}}={{$v}} {{end}}{{range $k, $v := .Map}}{{$k}}{{$v}}{{end}}", "0=a 1=b x1y2"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ('{{range .List}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}', "a"),
        ('{{range .List}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{end}}', "b"),
        ("{{$x := .N}}{{if .Yes}}{{$x = 8}}{{end}}{{$x}} {{$.Name}}", "8 /web"),
        ("a {{- .N -}} b{{/* no */}}c", "a7bc"),
        ("a {{- /* no */ -}} b", "ab"),
        (
            '{{printf "%s|%5d|%-4s|%q|%v|%t|%x|%.2f|%%" .Name .N "a" .Name .List .Yes 255 .F}}',
            '/web|    7|a   |"/web"|[a b]|true|ff|1.50|%',
        ),
        ('{{.Name | upper | printf "%s!"}}', "/WEB!"),
        (
            '{{join .List ","}} {{split "a-b" "-"}} {{lower "AB"}} {{title "ab cd"}} {{truncate "abcdef" 3}}',
            "a,b [a b] ab Ab Cd abc",
        ),
        ('{{pad "x" 1 2}}|{{pad "" 1 2}}|{{len .List}} {{len "é"}}', " x  ||2 2"),
        ("{{slice .Name 1 3}} {{json .Map}} {{json .Name}}", 'we {"y":2,"x":1} "/web"'),
        (
            '{{eq .N 7}} {{eq .N 1 7}} {{ne .N 7}} {{lt 1 2}} {{le 2 2}} {{gt "b" "a"}} {{ge 1 2}}',
            "true true false true true true false",
        ),
        ('{{and .Yes .N}} {{and .No .N}} {{or .No .N}} {{or .No ""}} {{not .No}}', "7 false 7  true"),
        ('{{print "a" 1 2 "b"}} {{println "x" 1}}', "a1 2b x 1\n"),
        ('{{"quo\\"te\\n"}}{{`raw\\n`}}{{\'a\'}}', 'quo"te\nraw\\n97'),
        ('{{html "<a>"}}', "&lt;a&gt;"),
        ("{{.Null}}", "<no value>"),
    ],
)
def test_templates_print_what_go_prints(template, shown) -> None:
    assert Template(template).render(DATA) == shown


@pytest.mark.row("CLI-15")
@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{.ID", "template: :1: unclosed action"),
        ("{{foo}}", 'template: :1: function "foo" not defined'),
        ("a\n{{foo}}", 'template: :2: function "foo" not defined'),
        ("{{if}}", "template: :1: missing value for if"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if .X}}", "template: :1: unexpected EOF"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        ('{{"x}}', "template: :1: unterminated quoted string"),
        ("{{(.X}}", "template: :1: unclosed left paren"),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
    ],
)
def test_what_is_no_template_is_said_in_gos_words(template, problem) -> None:
    with pytest.raises(ParseError) as caught:
        Template(template)
    assert str(caught.value) == problem


@pytest.mark.row("CLI-15")
@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{.Foo}}", 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        ("{{.Foo.Bar}}", 'template: :1:6: executing "" at <.Foo.Bar>: map has no entry for key "Foo"'),
        ("{{.Name.X}}", 'template: :1:7: executing "" at <.Name.X>: can\'t evaluate field X in type string'),
        (
            "{{index .List 9}}",
            'template: :1:2: executing "" at <index .List 9>: error calling index: index out of range: 9',
        ),
        ("{{len .N}}", 'template: :1:2: executing "" at <len .N>: error calling len: len of type int'),
        (
            '{{eq .N "x"}}',
            'template: :1:2: executing "" at <eq .N "x">: error calling eq: incompatible types for comparison',
        ),
    ],
)
def test_a_template_that_does_not_fit_says_where(template, problem) -> None:
    with pytest.raises(ExecError) as caught:
        Template(template).render(DATA)
    assert str(caught.value) == problem


@given(st.text(alphabet="{}.$|()\"`'- \nabifendrangewith:=,0", max_size=60))
def test_any_text_is_a_template_or_refused(source: str) -> None:
    try:
        Template(source).render(DATA)
    except (ParseError, ExecError):
        pass


@given(st.text())
def test_text_without_braces_is_itself(source: str) -> None:
    if "{{" not in source:
        assert Template(source).render(None) == source


def test_values_print_as_gos_fmt() -> None:
    assert text(Struct({"a": 1, "b": Struct({"c": ""})})) == "{1 {}}"
    assert text([True, None, Nil("[]")]) == "[true <nil> []]"
    assert [float_text(number) for number in (0.0, 1.0, 1e20, 1e21, 1.5e-5, 0.0001)] == [
        "0",
        "1",
        "100000000000000000000",
        "1e+21",
        "1.5e-05",
        "0.0001",
    ]
    assert sprintf("%d %s", ["x"]) == "%!d(string=x) %!s(MISSING)"
    assert sprintf("a", [1]) == "a%!(EXTRA int=1)"
    assert sprintf("%05d|%+d|%s", [-7, 3, [1]]) == "-0007|+3|[1]"
