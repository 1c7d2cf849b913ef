"""``--format`` of the commands that show whole objects (inspect, version, info): templates over the API's JSON.

Docker runs such a template over its own Go types first and over the bare JSON after that. The differences show in a few
places, all kept here: fields that JSON leaves out when empty, ``ID`` for ``Id``, and which objects are structs.
"""

from __future__ import annotations

from boxship.cli.command import ExitError
from boxship.cli.template.errors import ExecError, ParseError
from boxship.cli.template.execute import Template
from boxship.cli.template.printing import Nil, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

BAD_TEMPLATE = 64
# Objects under these names are maps in Go, all others structs.
MAPS = frozenset(
    (
        "Annotations",
        "Attributes",
        "AuxiliaryAddresses",
        "Config.Options",
        "Containers",
        "Data",
        "Details",
        "DriverOpts",
        "ExposedPorts",
        "IndexConfigs",
        "Labels",
        "LogConfig.Config",
        "Networks",
        "Options",
        "PortBindings",
        "Ports",
        "Runtimes",
        "Status",
        "StorageOpt",
        "Sysctls",
        "Tmpfs",
        "Volumes",
    )
)
POINTERS = frozenset(
    (
        "GraphDriver",
        "Health",
        "Healthcheck",
        "IPAMConfig",
        "Init",
        "OomKillDisable",
        "PidsLimit",
        "StopTimeout",
        "SizeRw",
        "SizeRootFs",
        "UsageData",
    )
)
GO_NAMES = {"ID": "Id", "APIVersion": "ApiVersion"}
# Fields that the JSON may lack: templates ask for them in "if" all the same.
ABSENT: dict[str, object] = {
    "Annotations": Nil("map[]"),
    "CreatedAt": "",
    "ExposedPorts": Nil("map[]"),
    "Health": Nil("<nil>"),
    "Healthcheck": Nil("<nil>"),
    "Init": Nil("<nil>"),
    "MacAddress": "",
    "Mounts": Nil("[]"),
    "Name": "",
    "NetworkDisabled": False,
    "Shell": Nil("[]"),
    "SizeRootFs": Nil("<nil>"),
    "SizeRw": Nil("<nil>"),
    "Status": Nil("map[]"),
    "StopSignal": "",
    "StopTimeout": Nil("<nil>"),
    "StorageOpt": Nil("map[]"),
    "Sysctls": Nil("map[]"),
    "Tmpfs": Nil("map[]"),
    "UsageData": Nil("<nil>"),
    "Variant": "",
    "Warnings": Nil("[]"),
}


class Typed(Struct):
    """A struct: fields that JSON left out are empty, and ``ID`` is ``Id``."""

    def field(self, name: str, arguments: list[object]) -> object:
        """Return the field. Raises LookupError in Go's words."""
        if arguments:
            raise LookupError(f"{name} is not a method but has arguments")
        if name in self:
            return self[name]
        if name in GO_NAMES and GO_NAMES[name] in self:
            return self[GO_NAMES[name]]
        if name in ABSENT:
            return ABSENT[name]
        raise LookupError(f'map has no entry for key "{name}"')


def typed(value: object, name: str = "", parent: str = "") -> object:
    """Return JSON with structs, maps and typed nils in the places where Docker's types have them."""
    is_map = name in MAPS or f"{parent}.{name}" in MAPS
    if isinstance(value, dict):
        converted = {key: typed(item, "" if is_map else key, name) for key, item in value.items()}
        return converted if is_map else Typed(converted)
    if isinstance(value, list):
        return [typed(item, "", name) for item in value]
    if value is None:
        return Nil("map[]" if is_map else "<nil>" if name in POINTERS else "[]")
    return value


def render_objects(format: str, found: Sequence[Any]) -> str:
    """Return each object through the template, a line each. Raises ExitError."""
    try:
        template = Template(format)
    except ParseError as exc:
        raise ExitError(f"template parsing error: {exc}", BAD_TEMPLATE) from exc
    lines = []
    problem = ""
    for item in found:
        try:
            lines.append(template.render(typed(item)))
        except ExecError as exc:
            problem = problem or str(exc)
    if problem:
        shown = "".join(line + "\n" for line in lines) or "\n"
        raise ExitError(f"template parsing error: {problem}", shown=shown)
    return "".join(line + "\n" for line in lines) or "\n"
