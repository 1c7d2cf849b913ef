"""Walking a template's tree over data."""

from __future__ import annotations

from boxship.cli.template.errors import ExecError
from boxship.cli.template.functions import FUNCTIONS, LAZY, NAMES, is_true
from boxship.cli.template.parser import Node, Statement, parse
from boxship.cli.template.printing import Nil, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    class Fields(Protocol):
        """An object with fields of its own: ``field`` returns one or raises LookupError with Go's words."""

        def field(self, name: str, arguments: list[object]) -> object: ...


class Template:
    """A parsed template. Raises ParseError from the constructor."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._body = parse(text, NAMES)

    def render(self, data: object) -> str:
        """Return the template's text for ``data``. Raises ExecError."""
        run = _Run(self._text, data)
        run.statements(self._body, data)
        return "".join(run.out)


class _BreakError(Exception):
    pass


class _ContinueError(Exception):
    pass


class _Run:
    def __init__(self, text: str, data: object) -> None:
        self._text = text
        self.out: list[str] = []
        self._variables: list[tuple[str, list[object]]] = [("$", [data])]

    def statements(self, body: Sequence[Statement], dot: object) -> None:
        for statement in body:
            match statement.kind:
                case "text":
                    self.out.append(statement.text)
                case "action":
                    assert statement.pipe is not None
                    value = self._pipe(statement.pipe, dot)
                    if not statement.pipe.variables:
                        self.out.append(show(value))
                case "break":
                    raise _BreakError
                case "continue":
                    raise _ContinueError
                case "range":
                    self._range(statement, dot)
                case _:
                    self._branch(statement, dot)

    def _branch(self, statement: Statement, dot: object) -> None:
        assert statement.pipe is not None
        scope = len(self._variables)
        value = self._pipe(statement.pipe, dot)
        if is_true(value):
            self.statements(statement.body, value if statement.kind == "with" else dot)
        else:
            self.statements(statement.otherwise, dot)
        del self._variables[scope:]

    def _range(self, statement: Statement, dot: object) -> None:
        pipe = statement.pipe
        assert pipe is not None
        scope = len(self._variables)
        value = self._commands(pipe, dot)
        any_item = False
        for key, item in self._items(value, pipe):
            any_item = True
            if len(pipe.variables) == 1:
                self._set(pipe, pipe.variables[0], item)
            elif pipe.variables:
                self._set(pipe, pipe.variables[0], key)
                self._set(pipe, pipe.variables[1], item)
            try:
                self.statements(statement.body, item)
            except _ContinueError:
                pass
            except _BreakError:
                break
            finally:
                del self._variables[scope:]
        if not any_item:
            self.statements(statement.otherwise, dot)
        del self._variables[scope:]

    def _items(self, value: object, pipe: Node) -> Iterable[tuple[object, object]]:
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, dict):
            return ((key, value[key]) for key in sorted(value))
        if value is None or isinstance(value, Nil):
            return ()
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        raise self._error(pipe, f"range can't iterate over {show(value)}")

    def _pipe(self, pipe: Node, dot: object) -> object:
        value = self._commands(pipe, dot)
        for name in pipe.variables:
            self._set(pipe, name, value)
        return value

    def _commands(self, pipe: Node, dot: object) -> object:
        value: object = None
        for index, command in enumerate(pipe.items):
            value = self._command(command, dot, [value] if index else [])
        return value

    def _set(self, pipe: Node, name: str, value: object) -> None:
        if not pipe.assigns:
            self._variables.append((name, [value]))
            return
        self._cell(name)[0] = value

    def _cell(self, name: str) -> list[object]:
        return next(cell for held, cell in reversed(self._variables) if held == name)

    def _command(self, command: Node, dot: object, final: list[object]) -> object:
        first, *rest = command.items
        if first.kind == "function":
            return self._call(first, command, rest, dot, final)
        if first.kind in ("field", "chain", "variable"):
            arguments = [self._operand(item, dot) for item in rest] + final
            return self._operand(first, dot, arguments)
        if rest or final:
            raise self._error(first, f"can't give argument to non-function {first.source}")
        return self._operand(first, dot)

    def _call(self, node: Node, command: Node, rest: Sequence[Node], dot: object, final: list[object]) -> object:
        name = node.names[0]
        if name in LAZY:
            if not rest and not final:
                raise self._error(node, f"wrong number of args for {name}: want at least 1 got 0")
            value: object = None
            for item in rest:
                value = self._operand(item, dot)
                if is_true(value) == (name == "or"):
                    return value
            return final[0] if final else value
        arguments = [self._operand(item, dot) for item in rest] + final
        try:
            return FUNCTIONS[name](*arguments)
        except ExecError as exc:
            raise self._error(command if str(exc).startswith("error calling") else node, str(exc)) from exc
        except TypeError as exc:
            raise self._error(node, f"wrong number of args for {name}: got {len(arguments)}") from exc

    def _operand(self, node: Node, dot: object, arguments: list[object] | None = None) -> object:
        match node.kind:
            case "dot":
                return dot
            case "literal":
                return node.value
            case "nil":
                raise self._error(node, "nil is not a command")
            case "field":
                return self._fields(node, dot, node.names, arguments or [])
            case "variable":
                value = self._cell(node.names[0])[0]
                return self._fields(node, value, node.names[1:], arguments or [])
            case "pipe":
                return self._pipe(node, dot)
            case "chain":
                assert node.operand is not None
                value = self._operand(node.operand, dot)
                return self._fields(node, value, node.names, arguments or [])
            case "function":
                return self._call(node, node, (), dot, [])
        raise self._error(node, f"can't evaluate {node.source}")

    def _fields(self, node: Node, value: object, names: Sequence[str], arguments: list[object]) -> object:
        for index, name in enumerate(names):
            last = index == len(names) - 1
            value = self._field(node, value, name, arguments if last else [])
        return value

    def _field(self, node: Node, value: object, name: str, arguments: list[object]) -> object:
        getter = getattr(value, "field", None)
        try:
            if getter is not None:
                return getter(name, arguments)
            if isinstance(value, dict):
                if arguments:
                    raise LookupError(f"{name} is not a method but has arguments")
                if name not in value:
                    raise LookupError(f'map has no entry for key "{name}"')
                return value[name]
        except LookupError as exc:
            raise self._error(node, str(exc.args[0])) from exc
        if value is None or isinstance(value, Nil):
            raise self._error(node, f"nil pointer evaluating interface {{}}.{name}")
        kind = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}"}.get(
            type(value), "interface {}"
        )
        raise self._error(node, f"can't evaluate field {name} in type {kind}")

    def _error(self, node: Node, problem: str) -> ExecError:
        before = self._text[: node.at]
        line = before.count("\n") + 1
        column = len(before.rpartition("\n")[2].encode())
        return ExecError(f'template: :{line}:{column}: executing "" at <{node.source}>: {problem}')
