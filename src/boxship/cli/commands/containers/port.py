"""``port``: where a container's ports are published."""

from __future__ import annotations

from boxship.cli.command import Command, ExitError
from boxship.client.engine import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.cli.command import Session
    from boxship.cli.flags import Values


def run(session: Session, values: Values) -> int:
    """List all published ports, or the addresses of one."""
    container, *port = values.arguments
    found = session.engine.json("GET", f"/containers/{quote(container)}/json")
    published: dict[str, list[dict[str, str]] | None] = (found.get("NetworkSettings") or {}).get("Ports") or {}
    lines = []
    if port:
        number, _, protocol = port[0].partition("/")
        key = f"{number}/{protocol or 'tcp'}"
        if not number.isdecimal() or int(number) > 65535:
            reason = "value out of range" if number.isdecimal() else "invalid syntax"
            raise ExitError(f'Error: invalid port ({number}): strconv.ParseUint: parsing "{number}": {reason}')
        bindings = published.get(key)
        if not bindings:
            raise ExitError(f"Error: No public port '{port[0]}' published for {container}")
        lines = [_address(binding) for binding in bindings]
    else:
        for key, bindings in published.items():
            lines.extend(f"{key} -> {_address(binding)}" for binding in bindings or [])
    lines.sort(key=_sort_key)
    session.out("".join(line + "\n" for line in lines))
    return 0


def _address(binding: dict[str, str]) -> str:
    address, port = binding.get("HostIp", ""), binding.get("HostPort", "")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _sort_key(line: str) -> list[tuple[int, int | str]]:
    """Numbers in the text count as numbers: port 80 before 443."""
    key: list[tuple[int, int | str]] = []
    digits = ""
    for letter in line + "\0":
        if letter.isdecimal():
            digits += letter
            continue
        if digits:
            key.append((0, int(digits)))
            digits = ""
        key.append((1, letter))
    return key


COMMANDS = {"container port": Command("CONTAINER [PRIVATE_PORT[/PROTO]]", run, least=1, most=2)}
