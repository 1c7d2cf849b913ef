"""Stages become steps, configurations and vertices of the build graph."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile import copying, history, lint, parameters, running
from boxship.build.dockerfile.options import Base, PlanOptions, Resolve
from boxship.build.dockerfile.scope import Arguments, Scope
from boxship.build.dockerfile.sources import Inputs
from boxship.build.dockerfile.stages import (
    Numbered,
    StageSource,
    divide,
    located,
    needed,
)
from boxship.build.graph import Graph, MakeDirectory, Scratch, Vertex, vertex
from boxship.build.plan import Plan, Stage, Step
from boxship.build.plan import Warning as Finding
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.dockerfile import config as effects
from boxship.spec.dockerfile import instructions
from boxship.spec.dockerfile.arguments import go_quoted
from boxship.spec.dockerfile.instructions import File, Instruction
from boxship.spec.dockerfile.lines import read
from boxship.spec.dockerfile.parse import parse_line
from boxship.spec.dockerfile.suggest import suggest
from boxship.spec.dockerfile.words import Variables

_SETTINGS = 2_000_000  # of all steps together, since each keeps its own configuration


async def plan(file: File, options: PlanOptions, resolve: Resolve) -> Plan:
    """Decide what a build does. Raises DockerfileError, InvalidInput (the target is none), and what ``resolve`` raises."""
    return await _Planner(file, options, resolve).plan()


class _Planner:
    def __init__(self, file: File, options: PlanOptions, resolve: Resolve) -> None:
        self._file = file
        self._options = options
        self._resolve = resolve
        self._division = divide(file)
        self._arguments = Arguments(options, file.escape)
        self._graph = Graph()
        self._bases: dict[tuple[str, str], Base] = {}
        self._stages: dict[int, Stage] = {}
        self._scopes: dict[int, Scope] = {}
        self._unknown: set[int] = set()  # stages of which nobody knows what variables they begin with
        self._warnings: list[Finding] = []
        self._settings = 0

    async def plan(self) -> Plan:
        heads = [self._global(step) for step in self._division.arguments]
        target = self._division.target(self._options.target)
        wanted = needed(self._division, target, self._arguments.variables())
        for stage in self._division.stages[: target.index + 1]:
            for step in stage.steps:
                if isinstance(step.instruction, instructions.Arg):
                    for name, _ in step.instruction.arguments:
                        self._arguments.consume(name)
        await self._resolve_bases(wanted)
        for stage in wanted:
            self._stages[stage.index] = await self._stage(stage, is_target=stage is target)
        stages = tuple(self._stages[index] for index in sorted(self._stages))
        made = Plan(self._graph, stages, self._stages[target.index], target.last + len(self._options.labels))
        made.arguments = tuple(heads)
        made.unused_args = self._arguments.unused()
        given = parameters.arguments(self._division.arguments, wanted, self._arguments, self._scopes)
        made.parameters = (*given, *parameters.mounts(made))
        made.warnings, made.warnings_fail = self._findings()
        return made

    def count(self, config: ContainerConfig) -> None:
        """Count the settings that a step keeps. Raises InvalidInput when all steps together keep too many."""
        kept = (config.env, config.exposed_ports, config.labels, config.volumes, config.on_build)
        self._settings += sum(len(each) for each in kept if each)
        if self._settings > _SETTINGS:
            raise InvalidInput("the instructions of this file set too many variables, labels, ports and volumes")

    def _findings(self) -> tuple[tuple[Finding, ...], bool]:
        """Return what the linter and the planning found, and whether that fails a build. Raises DockerfileError when it does."""
        options = self._options
        settings = lint.Settings.parse(options.build_args.get("BUILDKIT_DOCKERFILE_CHECK") or self._file.check)
        found = lint.check(self._division, settings, planned=self._warnings, ignored=options.ignored)
        if found and settings.error and not options.check_only:
            raise lint.failure(self._file, found)
        return tuple(found), settings.error and bool(found)

    def _global(self, step: Numbered) -> Step:
        instruction = step.instruction
        assert isinstance(instruction, instructions.Arg)
        try:
            self._arguments.declare(instruction)
        except InvalidInput as exc:
            raise located(self._file, instruction, exc) from exc
        return _step(step, -1, ContainerConfig())

    # images

    def _reference(self, stage: StageSource) -> tuple[str, str]:
        """Return the image or stage that a stage begins with, and the platform it asks for. Raises DockerfileError."""
        variables = self._arguments.variables()
        try:
            reference = variables.word(stage.begin.base)
            if not reference:
                raise InvalidInput(f"base name ({stage.begin.base}) should not be blank")
            platform = variables.word(stage.begin.platform)
            if stage.begin.platform and not platform:
                raise InvalidInput(f"empty platform value from expression {stage.begin.platform}")
        except InvalidInput as exc:
            raise located(self._file, stage.begin, exc) from exc
        for name in sorted(variables.missing):
            near = suggest(name, variables.values)
            self._warn("UndefinedArgInFrom", f"FROM argument '{name}' is not declared{near}", stage.begin)
        return reference, platform or self._options.platform

    async def _resolve_bases(self, stages: list[StageSource]) -> None:
        """Find the images that stages begin with, all at the same time."""
        wanted: dict[tuple[str, str], StageSource] = {}
        for stage in stages:
            reference, platform = self._reference(stage)
            if reference != "scratch" and self._division.find(reference, stage.index) is None:
                image = copying.context_image(self._options, reference)
                if image is not None:
                    wanted.setdefault((image, platform), stage)
        self._warnings.clear()  # they come again, in order, when the stages are planned
        try:
            async with asyncio.TaskGroup() as group:
                for (reference, platform), stage in wanted.items():
                    group.create_task(self._base(reference, platform, stage.label))
        except BaseExceptionGroup as exc:
            raise exc.exceptions[0] from exc

    async def _base(self, reference: str, platform: str, name: str) -> Base:
        key = (reference, platform)
        if key not in self._bases:
            self._bases[key] = await self._resolve(reference, platform, name)
        return self._bases[key]

    # stages

    async def _stage(self, source: StageSource, *, is_target: bool) -> Stage:
        reference, platform = self._reference(source)
        below = self._division.find(reference, source.index)
        scope = Scope(self._arguments, self._file.escape)
        base = ""
        if below is not None and below.index in self._stages:
            made = self._stages[below.index]
            config, result, platform = made.config, self._graph[made.result], made.platform
            scope = Scope(self._arguments, self._file.escape, self._scopes[below.index].declared)
            self._unknown |= {source.index} if below.index in self._unknown else set()
        elif reference == "scratch":
            config = ContainerConfig()
            result = self._graph.add(vertex(Scratch(), platform=platform))
        else:
            inputs = Inputs(self._graph, self._options)
            image = copying.context_image(self._options, reference)
            if image is None:
                wrong = InvalidInput(f"the context {reference} is a directory, a stage begins with an image")
                raise located(self._file, source.begin, wrong)
            found = await self._base(image, platform, source.label)
            self._unknown |= set() if found.is_known else {source.index}
            self._check_platform(source, image, found.platform, platform)
            config, base, platform = found.config, found.id, found.platform or platform
            result = inputs.image(image, found, self._name(source, 1, source.begin))
        self._scopes[source.index] = scope
        first = _step(Numbered(source.number, source.begin), source.index, config, result.id)
        working = _Working(self, source, scope, platform, _begun(config), result, first)
        await working.triggers(config.on_build or [])
        for numbered in source.steps:
            await working.carry_out(numbered)
        if is_target:
            for number, (key, value) in enumerate(sorted(self._options.labels.items()), source.last + 1):
                working.label(number, key, value)
        return Stage(
            index=source.index,
            name=source.begin.name,
            platform=platform,
            base=base,
            steps=tuple(working.steps),
            result=working.result.id,
            config=working.steps[-1].config,
        )

    def _check_platform(self, source: StageSource, image: str, found: str, wanted: str) -> None:
        if found and found.split("/")[:2] != wanted.split("/")[:2]:
            text = f"Base image {image} was pulled with platform {go_quoted(found)}, expected {go_quoted(wanted)} for current build"
            self._warn("BaseImagePlatformMismatch", text, source.begin)

    def _name(self, stage: StageSource, position: int, instruction: Instruction) -> str:
        many = f"{stage.label} " if len(self._division.stages) > 1 else ""
        total = 1 + sum(isinstance(step.instruction, _WITH_FILES) for step in stage.steps)
        return f"[{many}{position}/{total}] {instruction.source.text}"

    def _warn(self, rule: str, message: str, instruction: Instruction) -> None:
        line = instruction.source
        self._warnings.append(Finding(rule=rule, message=message, line=line.line, end_line=line.end_line))


_WITH_FILES = (instructions.Run, instructions.Copy, instructions.Workdir)


class _Working:
    """One stage while its instructions are carried out."""

    def __init__(
        self,
        planner: _Planner,
        source: StageSource,
        scope: Scope,
        platform: str,
        config: ContainerConfig,
        result: Vertex,
        first: Step,
    ) -> None:
        self._planner = planner
        self._source = source
        self._scope = scope
        self._platform = platform
        self._config = config
        self._command_given = False
        self._position = 1
        self.result = result
        self.steps = [first]

    async def triggers(self, expressions: list[str]) -> None:
        """Carry out what the base image's ONBUILD asks for; its steps have FROM's number. Raises DockerfileError."""
        for expression in expressions:
            try:
                line = read(expression.encode("utf-8", "surrogateescape")).instructions[0]
                instruction = parse_line(line, self._planner._file.escape)
                if isinstance(instruction, instructions.OnBuild | instructions.From | instructions.Maintainer):
                    raise InvalidInput(f"{line.keyword} isn't allowed as an ONBUILD trigger")
            except InvalidInput as exc:
                raise located(self._planner._file, self._source.begin, exc) from exc
            await self.carry_out(Numbered(self._source.number, instruction), is_trigger=True)

    async def carry_out(self, numbered: Numbered, *, is_trigger: bool = False) -> None:
        """Plan one instruction. Raises DockerfileError."""
        instruction = numbered.instruction
        variables = self._scope.variables(self._config)
        try:
            match instruction:
                case instructions.Copy():
                    await self._copy(numbered, instruction, variables, is_trigger)
                case instructions.Run():
                    await self._run(numbered, instruction, variables, is_trigger)
                case instructions.Arg():
                    instruction = self._scope.declare(instruction, self._config, variables)
                    self._set(Numbered(numbered.number, instruction), self._config, variables, is_trigger)
                case instructions.Workdir():
                    self._workdir(numbered, instruction, variables, is_trigger)
                case _:
                    config = effects.apply(instruction, self._config, variables)
                    if isinstance(instruction, instructions.Entrypoint) and not self._command_given:
                        config = replace(config, cmd=None)
                    self._command_given |= isinstance(instruction, instructions.Cmd)
                    self._set(numbered, config, variables, is_trigger)
        except InvalidInput as exc:
            place = self._source.begin if is_trigger else instruction
            raise located(self._planner._file, place, exc) from exc
        self._check_variables(instruction, variables, is_trigger)

    def label(self, number: int, key: str, value: str) -> None:
        """Add what ``--label`` asks for."""
        self._config = replace(self._config, labels={**(self._config.labels or {}), key: value})
        shell = " ".join(self._config.shell or effects.DEFAULT_SHELL)
        self.steps.append(
            Step(
                number=number,
                stage=self._source.index,
                text=f"LABEL {key}={value}",
                line=0,
                end_line=0,
                config=self._config,
                created_by=f"{shell} #(nop)  LABEL {key}={value}",
            )
        )

    def _set(self, numbered: Numbered, config: ContainerConfig, variables: Variables, is_trigger: bool) -> None:
        instruction = numbered.instruction
        text = history.of_setting(instruction, config, variables)
        self._config = config
        self._planner.count(config)
        author = instruction.author if isinstance(instruction, instructions.Maintainer) else ""
        self._add(numbered, is_trigger, created_by=text, author=author)

    def _workdir(
        self, numbered: Numbered, instruction: instructions.Workdir, variables: Variables, is_trigger: bool
    ) -> None:
        self._config = effects.apply(instruction, self._config, variables)
        made = MakeDirectory(path=self._config.working_dir)
        self._extend(vertex(made, [self.result], name=self._next_name(instruction), platform=self._platform))
        self._add(numbered, is_trigger, self.result, created_by=history.of_workdir(self._config))

    async def _copy(
        self, numbered: Numbered, instruction: instructions.Copy, variables: Variables, is_trigger: bool
    ) -> None:
        job = copying.Copying(instruction, self._config, variables)
        origin = await self._origin(instruction.origin) if instruction.origin else None
        inputs = Inputs(self._planner._graph, self._planner._options)
        name = self._next_name(instruction)
        text = history.of_copy(instruction, self._config, job.written_target, job.chown)
        for operation, sources in job.operations(inputs, origin):
            self._extend(
                vertex(
                    operation,
                    [self.result, *sources],
                    name=name,
                    platform=self._platform,
                    uncached=self._uncached,
                )
            )
            self._add(numbered, is_trigger, self.result, created_by=text)

    async def _run(
        self, numbered: Numbered, instruction: instructions.Run, variables: Variables, is_trigger: bool
    ) -> None:
        inputs = Inputs(self._planner._graph, self._planner._options)
        arguments, uncounted = self._scope.of_programs(self._config)
        job = running.Running(instruction, self._config, variables)
        origins = {name: await self._origin(name) for name in job.origins()}
        operation, sources = job.operation(
            inputs, origins, arguments=arguments, uncounted=uncounted, network=self._planner._options.network
        )
        name = self._next_name(instruction)
        self._extend(
            vertex(operation, [self.result, *sources], name=name, platform=self._platform, uncached=self._uncached)
        )
        counted = {key: value for key, value in arguments.items() if key not in uncounted}
        self._add(numbered, is_trigger, self.result, created_by=history.of_run(job.argv, counted))

    async def _origin(self, written: str) -> Vertex:
        """Return the files that ``--from`` or a mount's ``from`` names. Raises InvalidInput and what ``resolve`` raises."""
        planner = self._planner
        variables = planner._arguments.variables()
        name = variables.word(written)
        if variables.missing or not name:
            raise InvalidInput(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope"
                " as a workaround"
            )
        inputs = Inputs(planner._graph, planner._options)
        if name not in planner._options.contexts:
            stage = planner._division.origin(name, self._source.index)
            if stage is not None:
                if stage.index not in planner._stages:  # an ONBUILD trigger may ask for a stage that nothing else needs
                    planner._stages[stage.index] = await planner._stage(stage, is_target=False)
                return planner._graph[planner._stages[stage.index].result]
        if name == "scratch":
            raise InvalidInput(f'"{name}" is a reserved name and cannot be copied from')
        image = copying.context_image(planner._options, name)
        if image is None:
            return inputs.context(name)
        found = await planner._base(image, self._platform, name)
        return inputs.image(image, found, f"FROM {name}")

    @property
    def _uncached(self) -> bool:
        options = self._planner._options
        names = {name.lower() for name in options.no_cache_filter}
        return options.no_cache or bool(
            names & {self._source.begin.name or str(self._source.index), self._source.label}
        )

    def _next_name(self, instruction: Instruction) -> str:
        self._position += 1
        return self._planner._name(self._source, self._position, instruction)

    def _extend(self, made: Vertex) -> None:
        self.result = self._planner._graph.add(made)

    def _add(
        self,
        numbered: Numbered,
        is_trigger: bool,
        result: Vertex | None = None,
        *,
        created_by: str,
        author: str = "",
    ) -> None:
        step = _step(
            numbered,
            self._source.index,
            self._config,
            result.id if result else "",
            created_by=created_by,
            author=author,
        )
        line = self._source.begin.source
        self.steps.append(
            replace(step, line=line.line, end_line=line.end_line, is_trigger=True) if is_trigger else step
        )

    def _check_variables(self, instruction: Instruction, variables: Variables, is_trigger: bool) -> None:
        if is_trigger or self._source.index in self._planner._unknown:
            return
        for name in sorted(variables.missing - {"PATH"}):
            near = suggest(name, variables.values).replace("(did you mean ", "(did you mean $")
            self._planner._warn("UndefinedVar", f"Usage of undefined variable '${name}'{near}", instruction)


def _begun(config: ContainerConfig) -> ContainerConfig:
    """Return what a stage works on: a base image's configuration with PATH, without what was for its children only."""
    if "PATH" not in effects.environment(config):
        config = effects.set_env(config, [("PATH", effects.DEFAULT_PATH)])
    return replace(config, on_build=None, open_stdin=False, stdin_once=False)


def _step(
    numbered: Numbered,
    stage: int,
    config: ContainerConfig,
    result: str = "",
    *,
    created_by: str = "",
    author: str = "",
) -> Step:
    line = numbered.instruction.source
    return Step(
        number=numbered.number,
        stage=stage,
        text=line.text,
        line=line.line,
        end_line=line.end_line,
        config=config,
        vertex=result,
        created_by=created_by,
        author=author,
    )
