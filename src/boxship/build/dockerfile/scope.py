"""Build arguments: which are known where, with which value (Dockerfile reference, ARG)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from boxship.build.dockerfile.options import PlanOptions
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.dockerfile import config as effects
from boxship.spec.dockerfile.instructions import Arg
from boxship.spec.dockerfile.words import Variables

# Known in every stage without ARG; they neither count for the cache nor stand in the history unless ARG names them.
PROXIES = tuple(
    name
    for proxy in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (proxy.upper(), proxy)
)
# Arguments to the builder itself: nobody need declare them.
_BUILDERS = ("SOURCE_DATE_EPOCH",)


def platform_arguments(options: PlanOptions) -> dict[str, str]:
    """Return the arguments that every build has: TARGETPLATFORM and its parts, BUILDPLATFORM and its parts."""
    found: dict[str, str] = {}
    for prefix, platform in (("BUILD", options.build_platform), ("TARGET", options.platform)):
        system, architecture, variant = (*platform.split("/", 2), "", "")[:3]
        found |= {
            f"{prefix}PLATFORM": platform,
            f"{prefix}OS": system,
            f"{prefix}OSVERSION": "",
            f"{prefix}ARCH": architecture,
            f"{prefix}VARIANT": variant,
        }
    return found | {"TARGETSTAGE": options.target or "default"}


class Arguments:
    """The arguments before the first FROM, and which of the given ones anybody asked for."""

    def __init__(self, options: PlanOptions, escape: str) -> None:
        self._given = options.build_args
        self._escape = escape
        self._platform = platform_arguments(options)
        self._values: dict[str, str] = {}
        self._consumed: set[str] = set()

    def declare(self, instruction: Arg) -> None:
        """Take an ARG before the first FROM. Raises InvalidInput."""
        for name, default in instruction.arguments:
            self.consume(name)
            value = self.given(name)
            if value is None and default is not None:
                value = self.variables().word(default)
            if value is None:
                value = self._platform.get(name)
            if value is not None:
                self._values[name] = value

    def variables(self) -> Variables:
        """Return what FROM sees."""
        return Variables({**self._platform, **self._values}, self._escape)

    def given(self, name: str) -> str | None:
        """Return the caller's value."""
        return self._given.get(name)

    def inherited(self, name: str) -> str | None:
        """Return what ``ARG name`` without a default means in a stage."""
        return self._values.get(name, self._platform.get(name))

    def consume(self, name: str) -> None:
        """Remember that the file has an ARG of this name."""
        self._consumed.add(name)

    def unused(self) -> tuple[str, ...]:
        """Return the given names that no ARG asked for, sorted."""
        known = {*self._consumed, *PROXIES, *_BUILDERS}
        return tuple(sorted(name for name in self._given if name not in known and not name.startswith("BUILDKIT_")))

    def proxies(self) -> dict[str, str]:
        """Return the proxies that the caller gave."""
        return {name: value for name in PROXIES if (value := self._given.get(name)) is not None}


class Scope:
    """The arguments of one stage."""

    def __init__(self, arguments: Arguments, escape: str, inherited: Mapping[str, str | None] | None = None) -> None:
        self._arguments = arguments
        self._escape = escape
        self.declared: dict[str, str | None] = dict(inherited or {})

    def declare(self, instruction: Arg, config: ContainerConfig, seen: Variables) -> Arg:
        """Take an ARG; return it with the variables of its defaults replaced. Raises InvalidInput.

        A default sees the arguments before it on the same line; what is missing is added to ``seen``.
        """
        expanded: list[tuple[str, str | None]] = []
        for name, written in instruction.arguments:
            variables = self.variables(config)
            default = None if written is None else variables.word(written)
            seen.missing |= variables.missing
            expanded.append((name, default))
            self._arguments.consume(name)
            given = self._arguments.given(name)
            value = default if given is None else given
            self.declared[name] = self._arguments.inherited(name) if value is None else value
        return replace(instruction, arguments=tuple(expanded))

    def variables(self, config: ContainerConfig) -> Variables:
        """Return what an instruction sees; what ENV sets hides an argument."""
        declared = {name: value for name, value in self.declared.items() if value is not None}
        return Variables({**self._arguments.proxies(), **declared, **effects.environment(config)}, self._escape)

    def of_programs(self, config: ContainerConfig) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the arguments that RUN's environment has beside the configuration's, and the names that do not count."""
        set_by_env = effects.environment(config)
        declared = {
            name: value for name, value in sorted(self.declared.items()) if value is not None and name not in set_by_env
        }
        proxies = {name: value for name, value in self._arguments.proxies().items() if name not in set_by_env}
        return {**proxies, **declared}, tuple(name for name in proxies if name not in declared)
