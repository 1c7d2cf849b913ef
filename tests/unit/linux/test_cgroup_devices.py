import struct
from typing import Any

import pytest

from boxship.linux.cgroup_devices import program, reduce

DENY_ALL = {"allow": False, "access": "rwm"}


def rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def test_no_rules_leave_the_default() -> None:
    devices = reduce([])
    assert devices.allow
    assert devices.lines() == []


def test_allowed_devices_are_exceptions_from_a_denial_of_all() -> None:
    devices = reduce(
        [DENY_ALL, rule(True, "c", 1, 3, "rwm"), rule(True, "c", 136, None, "rw"), rule(True, "b", -1, -1, "m")]
    )
    assert not devices.allow
    assert devices.lines() == ["c 1:3 rwm", "c 136:* rw", "b *:* m"]


def test_rules_for_one_device_add_up() -> None:
    assert reduce([DENY_ALL, rule(True, "c", 1, 3, "w"), rule(True, "c", 1, 3, "r")]).lines() == ["c 1:3 rw"]


def test_a_later_rule_takes_back_what_an_earlier_one_gave() -> None:
    rules = [DENY_ALL, rule(True, "c", 1, 3, "rw"), rule(True, "c", 1, 5, "r"), rule(False, "c", 1, None, "r")]
    assert reduce(rules).lines() == ["c 1:3 w"]


def test_an_exception_from_a_wider_exception_is_refused() -> None:
    with pytest.raises(ValueError, match="exception from the wider rule"):
        reduce([DENY_ALL, rule(True, "c", 1, None, "rw"), rule(False, "c", 1, 3, "r")])


def test_a_rule_for_all_types_with_a_number_concerns_that_number_only() -> None:
    devices = reduce([DENY_ALL, rule(True, "a", 10, 200, "rw")])
    assert devices.lines() == ["b 10:200 rw", "c 10:200 rw"]


def test_a_rule_for_all_devices_but_not_all_access_does_not_allow_everything() -> None:
    assert not reduce([DENY_ALL, rule(True, "a", None, None, "r")]).allow


@pytest.mark.parametrize(
    "bad", [rule(True, "x", 1, 1, "r"), rule(True, "c", 1, 1, "x"), rule(True, "c", -2, 1, "r"), {"major": "1"}]
)
def test_a_rule_out_of_form_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="invalid device rule"):
        reduce([bad])


def evaluate(code: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Run a device program for one request, as the kernel would."""
    mask = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = ((mask << 16) | {"b": 1, "c": 2}[kind], major, minor)
    instructions = list(struct.iter_unpack("=BBhi", code))
    registers = [0] * 11
    position = 0
    while True:
        opcode, register, offset, immediate = instructions[position]
        dst, src = register & 15, register >> 4
        position += 1
        if opcode == 0x61:
            registers[dst] = context[offset // 4]
        elif opcode == 0xBF:
            registers[dst] = registers[src]
        elif opcode == 0xB7:
            registers[dst] = immediate
        elif opcode == 0x54:
            registers[dst] &= immediate
        elif opcode == 0x74:
            registers[dst] >>= immediate
        elif opcode in (0x55, 0x15):
            if (registers[dst] != immediate) == (opcode == 0x55):
                position += offset
        else:
            assert opcode == 0x95
            return bool(registers[0])


@pytest.mark.row("RES-16")
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (("c", 1, 3, "rw"), True),
        (("c", 1, 3, "m"), True),
        (("c", 1, 5, "r"), True),
        (("c", 1, 5, "w"), False),
        (("c", 1, 5, "rw"), False),
        (("b", 1, 3, "r"), False),
        (("c", 136, 77, "rw"), True),
        (("c", 137, 77, "rw"), False),
        (("b", 8, 0, "m"), True),
        (("b", 8, 0, "r"), False),
    ],
)
def test_a_program_allows_exactly_the_exceptions(request_: tuple[str, int, int, str], answer: bool) -> None:
    rules = [DENY_ALL, rule(True, "c", 1, 3, "rwm"), rule(True, "c", 1, 5, "r"), rule(True, "c", 136, None, "rwm")]
    code = program(reduce([*rules, rule(True, "b", None, None, "m")]))
    assert evaluate(code, *request_) is answer


def test_a_program_whose_default_allows_denies_any_access_of_an_exception() -> None:
    code = program(reduce([rule(False, "c", 1, 5, "w")]))
    assert evaluate(code, "c", 1, 5, "r")
    assert not evaluate(code, "c", 1, 5, "rw")
    assert evaluate(code, "c", 1, 3, "rw")
