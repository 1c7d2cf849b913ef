"""From tokens to a tree: text, actions with pipelines, if/range/with. Names of functions and variables are checked here."""

from __future__ import annotations

from boxship.cli.template.errors import ParseError
from boxship.cli.template.lexer import Token, error_at, number, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


class Node:
    """One operand or call. ``kind`` decides which members mean something:

    dot, nil; field (``names``); variable (``names``: the name, then fields); literal (``value``); function (``names[0]``);
    chain (``operand`` in parentheses, then ``names``); command (``items``: operator and arguments); pipe (``items`` are
    commands, ``variables`` are declared or, with ``assigns``, given a new value).
    """

    __slots__ = ("assigns", "at", "items", "kind", "names", "operand", "source", "value", "variables")

    def __init__(self, kind: str, at: int, source: str) -> None:
        self.kind = kind
        self.at = at
        self.source = source
        self.names: list[str] = []
        self.items: list[Node] = []
        self.operand: Node | None = None
        self.value: object = None
        self.variables: list[str] = []
        self.assigns = False


class Statement:
    """One part of a template's body: ``kind`` is text, action, if, range, with, break or continue."""

    __slots__ = ("body", "kind", "otherwise", "pipe", "text")

    def __init__(self, kind: str, *, text: str = "", pipe: Node | None = None) -> None:
        self.kind = kind
        self.text = text
        self.pipe = pipe
        self.body: list[Statement] = []
        self.otherwise: list[Statement] = []


def parse(text: str, functions: Container[str]) -> list[Statement]:
    """Return the template's statements. Raises ParseError."""
    return _Parser(text, functions).template()


class _Parser:
    def __init__(self, text: str, functions: Container[str]) -> None:
        self._text = text
        self._functions = functions
        self._tokens = list(tokens(text))
        self._next = 0
        self._variables = ["$"]
        self._loops = 0

    def template(self) -> list[Statement]:
        body, end = self._body()
        if end:
            raise self._error(f"unexpected {{{{{end}}}}}")
        return body

    def _error(self, problem: str) -> ParseError:
        index = min(self._next, len(self._tokens) - 1)
        at = self._tokens[index].at if self._tokens else 0
        return error_at(self._text, at, problem)

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _skip_space(self) -> Token:
        while self._tokens[self._next].kind == "space":
            self._next += 1
        return self._tokens[self._next]

    def _body(self) -> tuple[list[Statement], str]:
        """Return statements up to ``end`` or ``else`` (left for the caller to look at) or the end of the template."""
        body: list[Statement] = []
        while (token := self._peek()) is not None:
            self._next += 1
            if token.kind == "text":
                body.append(Statement("text", text=token.value))
                continue
            first = self._skip_space()
            if first.kind == "keyword" and first.value in ("end", "else"):
                self._next += 1
                return body, first.value
            body.append(self._statement(first))
        return body, ""

    def _statement(self, first: Token) -> Statement:
        if first.kind == "keyword" and first.value in ("if", "range", "with"):
            self._next += 1
            return self._block(first.value)
        if first.kind == "keyword" and first.value in ("break", "continue"):
            self._next += 1
            if not self._loops:
                raise self._error(f"{{{{{first.value}}}}} outside {{{{range}}}}")
            self._expect_close(first.value)
            return Statement(first.value)
        return Statement("action", pipe=self._pipeline("command"))

    def _block(self, kind: str) -> Statement:
        scope = len(self._variables)
        statement = Statement(kind, pipe=self._pipeline(kind))
        self._loops += kind == "range"
        statement.body, end = self._body()
        self._loops -= kind == "range"
        if end == "else":
            token = self._skip_space()
            if token.kind == "keyword" and token.value == kind and kind in ("if", "with"):
                self._next += 1  # "else if" is an if of its own within the else, and shares its end
                statement.otherwise = [self._block(kind)]
                del self._variables[scope:]
                return statement
            self._expect_close("else")
            statement.otherwise, end = self._body()
            if end == "else":
                raise self._error("expected end; found {{else}}")
        if end != "end":
            raise self._error("unexpected EOF")
        self._expect_close("end")
        del self._variables[scope:]
        return statement

    def _expect_close(self, where: str) -> None:
        token = self._skip_space()
        if token.kind != "close":
            raise self._error(f"unexpected {_shown(token)} in {where}")
        self._next += 1

    def _pipeline(self, where: str, closing: str = "close") -> Node:
        """Read a pipeline and the braces or the parenthesis that close it."""
        first = self._skip_space()
        pipe = Node("pipe", first.at, "")
        self._declarations(pipe, where)
        while True:
            token = self._skip_space()
            if self._at_closing(token, closing):
                self._next += 1
                break
            if pipe.items and not (token.kind == "mark" and token.value == "|"):
                raise self._error(f"unexpected {_shown(token)} in {where}")
            if pipe.items:
                self._next += 1
                if self._at_closing(self._skip_space(), closing):
                    raise self._error(f"missing value for {where}")
            elif token.kind == "mark" and token.value == "|":
                raise self._error(f"unexpected {_shown(token)} in {where}")
            pipe.items.append(self._command(closing, where))
        if not pipe.items:
            raise self._error(f"missing value for {where}")
        for later in pipe.items[1:]:
            if later.items[0].kind in ("literal", "dot", "nil"):
                raise self._error(f"non executable command in pipeline stage {pipe.items.index(later) + 1}")
        pipe.source = " | ".join(command.source for command in pipe.items)
        return pipe

    def _at_closing(self, token: Token, closing: str) -> bool:
        return token.kind == "close" if closing == "close" else token.kind == "mark" and token.value == ")"

    def _declarations(self, pipe: Node, where: str) -> None:
        """Read ``$x :=``, ``$x =`` or, in a range, ``$i, $x :=``."""
        start = self._next
        names: list[str] = []
        while True:
            token = self._skip_space()
            if token.kind != "variable":
                break
            self._next += 1
            names.append(token.value)
            mark = self._skip_space()
            if mark.kind == "mark" and mark.value in (":=", "="):
                self._next += 1
                pipe.variables, pipe.assigns = names, mark.value == "="
                if pipe.assigns:
                    for name in names:
                        self._check_variable(name)
                else:
                    self._variables.extend(names)
                return
            if mark.kind == "mark" and mark.value == "," and where == "range" and len(names) < 2:
                self._next += 1
                continue
            break
        self._next = start

    def _check_variable(self, name: str) -> None:
        if name not in self._variables:
            raise self._error(f'undefined variable "{name}"')

    def _command(self, closing: str, where: str) -> Node:
        token = self._skip_space()
        command = Node("command", token.at, "")
        while True:
            token = self._skip_space()
            if self._at_closing(token, closing) or (token.kind == "mark" and token.value in "|)" and token.value):
                break
            command.items.append(self._operand(where))
            token = self._tokens[self._next]
            if token.kind not in ("space", "close") and not (token.kind == "mark" and token.value in ("|", ")")):
                raise self._error(f"unexpected {_shown(token)} in operand")
        command.source = " ".join(item.source for item in command.items)
        return command

    def _operand(self, where: str) -> Node:
        token = self._take()
        node = self._term(token, where)
        names: list[str] = []
        at = node.at
        while (after := self._tokens[self._next]).kind == "field":
            if not names:
                at = after.at
            names.append(after.value[1:])
            self._next += 1
        if not names:
            return node
        suffix = "".join(f".{name}" for name in names)
        if node.kind in ("field", "variable"):
            node.names += names
            node.at = at
            node.source += suffix
            return node
        if node.kind in ("literal", "nil", "dot"):
            raise self._error(f"unexpected . after term {node.source!r}".replace("'", '"'))
        chain = Node("chain", at, node.source + suffix)
        chain.operand = node
        chain.names = names
        return chain

    def _term(self, token: Token, where: str) -> Node:
        node = Node("literal", token.at, token.source)
        match token.kind:
            case "field":
                node.kind, node.names = "field", [token.value[1:]]
            case "variable":
                self._check_variable(token.value)
                node.kind, node.names = "variable", [token.value]
            case "string":
                node.value = token.value
            case "number":
                node.value = number(token)
            case "word" if token.value in ("true", "false"):
                node.value = token.value == "true"
            case "word":
                if token.value not in self._functions:
                    raise error_at(self._text, token.at, f'function "{token.value}" not defined')
                node.kind, node.names = "function", [token.value]
            case "keyword" if token.value == "nil":
                node.kind = "nil"
            case "mark" if token.value == ".":
                node.kind = "dot"
            case "mark" if token.value == "(":
                node = self._pipeline("parenthesized pipeline", ")")
                node.source = f"({node.source})"
            case _:
                raise error_at(self._text, token.at, f"unexpected {_shown(token)} in {where}")
        return node


def _shown(token: Token) -> str:
    if token.kind == "close":
        return '"}}"'
    if token.kind == "keyword":
        return f"<{token.value}>"
    quoted = token.source.replace('"', '\\"')
    return f'"{quoted}"'
