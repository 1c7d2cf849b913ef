"""What Docker's rules find in a Dockerfile (Dockerfile reference, "Build checks"); see docs/lint.md.

Rules that need to know variables and base images (UndefinedVar, UndefinedArgInFrom, BaseImagePlatformMismatch) are applied
while a build is planned; their findings come in through ``planned``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile.sources import is_git, is_url
from boxship.build.dockerfile.stages import Division, StageSource
from boxship.build.plan import Warning as Finding
from boxship.images import reference
from boxship.spec.docker.ignorefile import Patterns
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.arguments import go_quoted
from boxship.spec.dockerfile.errors import DockerfileError, excerpt
from boxship.spec.dockerfile.instructions import File, Instruction
from boxship.spec.dockerfile.words import Variables

_URL = "https://docs.docker.com/go/dockerfile/rule/"
_EXPERIMENTAL = frozenset(("CopyIgnoredFile", "InvalidDefinitionDescription"))
_RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|\Z)", re.ASCII | re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:^|_)public(?:_|\Z)", re.ASCII | re.IGNORECASE)
_ADDRESS = re.compile(r"[^/]*:")
_TRUE = ("1", "t", "true")

Found = Iterator[tuple[str, str, int, int]]  # rule, message, line, end line


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Which rules hold (``# check=skip=...;error=...;experimental=...``). "all" in a set stands for every rule."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False  # findings fail the build

    @classmethod
    def parse(cls, text: str) -> Settings:
        """Read the directive's value. Raises InvalidInput."""
        found: dict[str, object] = {}
        for part in filter(None, map(str.strip, text.split(";"))):
            key, equals, value = (each.strip() for each in part.partition("="))
            if not equals or key not in ("skip", "experimental", "error"):
                raise InvalidInput(f"invalid check option {go_quoted(key)}")
            if key == "error":
                if value.lower() not in (*_TRUE, "0", "f", "false"):
                    raise InvalidInput(f"failed to parse check option error={value}")
                found[key] = value.lower() in _TRUE
            else:
                found[key] = frozenset(filter(None, map(str.strip, value.split(","))))
        return msgspec.convert(found, cls)

    def holds(self, rule: str) -> bool:
        """Tell whether findings of a rule are wanted."""
        if self.skip & {rule, "all"}:
            return False
        return rule not in _EXPERIMENTAL or bool(self.experimental & {rule, "all"})


def check(
    division: Division, settings: Settings, *, planned: Iterable[Finding] = (), ignored: Patterns | None = None
) -> list[Finding]:
    """Return what the rules find, by line. ``ignored`` is the context's ``.dockerignore``."""
    found = [
        Finding(rule=rule, message=message, line=line, end_line=end_line)
        for finder in _FINDERS
        for rule, message, line, end_line in finder(division)
    ]
    found += [
        Finding(rule=rule, message=message, line=line, end_line=end_line)
        for rule, message, line, end_line in _ignored_files(division, ignored)
    ]
    wanted = {
        (each.line, each.rule, each.message): msgspec.structs.replace(each, url=_url(each.rule))
        for each in (*planned, *found)
        if settings.holds(each.rule)
    }
    return [wanted[key] for key in sorted(wanted)]


def failure(file: File, found: Sequence[Finding]) -> DockerfileError:
    """Return the error of a build that findings fail."""
    rules = ", ".join(dict.fromkeys(each.rule for each in found))
    first = found[0]
    shown = excerpt(file.name, file.lines, first.line, first.end_line)
    text = f"lint violation found for rules: {rules}"
    return DockerfileError(text, name=file.name, line=first.line, end_line=first.end_line, excerpt=shown)


def _url(rule: str) -> str:
    return _URL + re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", rule).lower() + "/"


def _at(rule: str, message: str, instruction: Instruction) -> tuple[str, str, int, int]:
    line = instruction.source
    return rule, message, line.line, line.end_line


def _all(division: Division) -> Iterator[Instruction]:
    yield from division.file.instructions


# the file as a whole


def _casing(division: Division) -> Found:
    written = [each.source.written for each in _all(division)]
    counts = Counter("lower" if word.islower() else "upper" for word in written if word.islower() or word.isupper())
    lower = counts["lower"] > counts["upper"]
    for each in _all(division):
        word = each.source.written
        if word != (word.lower() if lower else word.upper()):
            majority = "lowercase" if lower else "uppercase"
            text = f"Command '{word}' should match the case of the command majority ({majority})"
            yield _at("ConsistentInstructionCasing", text, each)


def _continuations(division: Division) -> Found:
    for line in division.file.empty_continuations:
        yield "NoEmptyContinuation", "Empty continuation line", line, line


# stages


def _stages(division: Division) -> Found:
    names: set[str] = set()
    for stage in division.stages:
        words = stage.begin.source.arguments.split()
        if len(words) == 3:
            yield from _names(stage, words[1], words[2], names)
        yield from _platform(stage)
    yield from _default_arguments(division)


def _names(stage: StageSource, as_word: str, name: str, names: set[str]) -> Found:
    begin = stage.begin
    from_word = begin.source.written
    if name != name.lower():
        yield _at("StageNameCasing", f"Stage name '{name}' should be lowercase", begin)
    if from_word.islower() != as_word.islower():
        yield _at("FromAsCasing", f"'{as_word}' and '{from_word}' keywords' casing do not match", begin)
    if begin.name in _RESERVED:
        text = f"Stage name should not use the same name as reserved stage {go_quoted(begin.name)}"
        yield _at("ReservedStageName", text, begin)
    if begin.name in names:
        text = f"Duplicate stage name {go_quoted(name)}, stage names should be unique"
        yield _at("DuplicateStageName", text, begin)
    names.add(begin.name)


def _platform(stage: StageSource) -> Found:
    platform = stage.begin.platform
    if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        text = f"Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        yield _at("RedundantTargetPlatform", text, stage.begin)
    elif platform and "$" not in platform:
        parts = platform.lower().split("/")
        if not any(part and part in stage.begin.name for part in parts):
            text = f"FROM --platform flag should not use constant value {go_quoted(platform)}"
            yield _at("FromPlatformFlagConstDisallowed", text, stage.begin)


def _default_arguments(division: Division) -> Found:
    defaults: dict[str, str] = {}
    for numbered in division.arguments:
        if isinstance(numbered.instruction, instructions.Arg):
            for name, written in numbered.instruction.arguments:
                if written is not None:
                    defaults[name] = _quietly(Variables(defaults, division.file.escape).word, written)
    declared = {name for step in division.arguments for name in _argument_names(step.instruction)}
    for stage in division.stages:
        variables = Variables(defaults, division.file.escape)
        base = _quietly(variables.word, stage.begin.base)
        if "$" in stage.begin.base and variables.missing <= declared and not _is_reference(base):
            text = f"Default value for ARG {stage.begin.base} results in empty or invalid base image name"
            yield _at("InvalidDefaultArgInFrom", text, stage.begin)


def _argument_names(instruction: Instruction) -> list[str]:
    return [name for name, _ in instruction.arguments] if isinstance(instruction, instructions.Arg) else []


def _quietly(expand: Callable[[str], str], text: str) -> str:
    try:
        return expand(text)
    except InvalidInput:
        return ""


def _is_reference(text: str) -> bool:
    try:
        reference.parse(text)
    except InvalidInput:
        return False
    return True


# instructions


def _settings(division: Division) -> Found:
    workdirs: dict[str, bool] = {}
    for stage in division.stages:
        absolute = workdirs.get(stage.begin.base.lower(), False)
        own_shell = False
        last: dict[type[Instruction], Instruction] = {}
        for numbered in stage.steps:
            each = numbered.instruction
            if isinstance(each, instructions.Workdir):
                if not absolute and not each.path.startswith(("/", "$")):
                    text = (
                        f"Relative workdir {go_quoted(each.path)} can have unexpected results if the base image changes"
                    )
                    yield _at("WorkdirRelativePath", text, each)
                absolute = absolute or each.path.startswith(("/", "$"))
            own_shell = own_shell or isinstance(each, instructions.Shell)
            if isinstance(each, instructions.Cmd | instructions.Entrypoint | instructions.Healthcheck):
                if type(each) in last:
                    text = (
                        f"Multiple {each.source.keyword} instructions should not be used in the same stage because only"
                        " the last one will be used"
                    )
                    yield _at("MultipleInstructionsDisallowed", text, last[type(each)])
                last[type(each)] = each
            if not own_shell and isinstance(each, instructions.Cmd | instructions.Entrypoint):
                yield from _json(each)
        if stage.begin.name:
            workdirs[stage.begin.name] = absolute


def _json(instruction: instructions.Cmd | instructions.Entrypoint) -> Found:
    if not instruction.command.is_exec and instruction.command.words:
        text = (
            f"JSON arguments recommended for {instruction.source.keyword} to prevent unintended behavior related to OS"
            " signals"
        )
        yield _at("JSONArgsRecommended", text, instruction)


def _each(division: Division) -> Found:
    for each in _all(division):
        keyword = each.source.keyword
        match each:
            case instructions.Maintainer():
                yield _at("MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", each)
            case instructions.Env() | instructions.Label() if each.legacy:
                text = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
                yield _at("LegacyKeyValueFormat", text, each)
        match each:
            case instructions.Env():
                yield from _secrets(each, [key for key, _ in each.pairs])
            case instructions.Arg():
                yield from _secrets(each, [name for name, _ in each.arguments])
            case instructions.Expose():
                yield from _ports(each)


def _secrets(instruction: Instruction, names: Iterable[str]) -> Found:
    for name in names:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            text = (
                "Do not use ARG or ENV instructions for sensitive data"
                f" ({instruction.source.keyword} {go_quoted(name)})"
            )
            yield _at("SecretsUsedInArgOrEnv", text, instruction)


def _ports(instruction: instructions.Expose) -> Found:
    for port in instruction.ports:
        if "$" in port:
            continue
        if _ADDRESS.match(port):
            text = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            yield _at("ExposeInvalidFormat", text, instruction)
        protocol = port.rpartition("/")[2] if "/" in port else ""
        if protocol != protocol.lower():
            text = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
            yield _at("ExposeProtoCasing", text, instruction)


def _descriptions(division: Division) -> Found:
    for each in _all(division):
        comment = each.source.comments[-1] if each.source.comments else ""
        names: Mapping[str, str] = {}
        if isinstance(each, instructions.From) and each.name:
            names = {each.name: "FROM"}
        elif isinstance(each, instructions.Arg):
            names = dict.fromkeys(_argument_names(each), "ARG")
        if comment and names and comment.split()[0].lower() not in {name.lower() for name in names}:
            name, keyword = next(iter(names.items()))
            text = f"Comment for {keyword} should follow the format: `# {name} <description>`"
            yield _at("InvalidDefinitionDescription", text, each)


def _ignored_files(division: Division, ignored: Patterns | None) -> Found:
    if ignored is None:
        return
    for each in _all(division):
        if not isinstance(each, instructions.Copy) or each.origin:
            continue
        for source in each.sources:
            if each.add and (is_url(source) or is_git(source)):
                continue
            if "$" not in source and ignored.matches(source) and not ignored.may_contain(source):
                verb = each.source.keyword.capitalize()
                text = f"Attempting to {verb} file {go_quoted(source)} that is excluded by .dockerignore"
                yield _at("CopyIgnoredFile", text, each)


_FINDERS: tuple[Callable[[Division], Found], ...] = (
    _casing,
    _continuations,
    _stages,
    _settings,
    _each,
    _descriptions,
)
