"""One build from its first byte to its image.

Whatever ends a build, also a cancellation: the images and results of the steps that were finished are kept, so that the next
build goes on from there; containers, mounts and files of the step that was running go.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING

from boxship.base.errors import InvalidInput, NotFound
from boxship.base.whole import in_thread, whole
from boxship.build import context as contexts
from boxship.build import frontend
from boxship.build.attestations import attaching
from boxship.build.attestations.request import Wanted
from boxship.build.attestations.request import parse as parse_attestations
from boxship.build.caching.cache import Record
from boxship.build.context import Dockerfile
from boxship.build.frontend import Base
from boxship.build.graph import Run
from boxship.build.outcome.assembly import Assembly, StepImage
from boxship.build.outcome.squash import squash
from boxship.build.plan import Plan, Stage
from boxship.build.progress import AnyEvent, Built, Checked, Described, Planned, Pulling, Row, StepDone, Warned
from boxship.build.remote_cache.exports import inlined
from boxship.build.remote_cache.imports import opened as opened_imports
from boxship.build.session import Session
from boxship.build.settings import epoch_ns, host_config, registry_auth, split_tag
from boxship.build.solver import Solver
from boxship.build.steps import entitlements
from boxship.build.steps.executor import Executor
from boxship.build.steps.mounts import Mounts
from boxship.images import reference as references
from boxship.images.indexes import Origin
from boxship.images.layers import NewImage
from boxship.images.model import Image
from boxship.images.service import ImageService
from boxship.spec.docker.build import BuildOptions
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.oci import digest_of

if TYPE_CHECKING:
    from boxship.build.service import BuildService


class Job:
    """Carries out one build; ``report`` gets its plan once and its events."""

    def __init__(
        self,
        service: BuildService,
        options: BuildOptions,
        auths: str | None,
        report: Callable[[AnyEvent | Plan], None],
    ) -> None:
        self._service = service
        self._images: ImageService = service.images
        self._options = options
        self._auths = auths
        self._report = report
        self._bases: dict[str, Image] = {}
        self._unused: list[str] = []  # build arguments that nothing consumed
        self._records: Mapping[str, Record] = {}  # of its results, by id

    async def run(self, context: AsyncIterator[bytes]) -> None:
        """Build. Raises BoxshipError; ClientGone and others that ``context`` raises."""
        started_ns = time.time_ns()
        names = [references.parse_tagged(*split_tag(tag)) for tag in self._options.tags]
        wanted = parse_attestations(self._options.attestations)
        async with AsyncExitStack() as stack:
            holding = ExitStack()
            stack.push_async_callback(lambda: asyncio.shield(asyncio.to_thread(holding.close)))
            addition = await in_thread(lambda: holding.enter_context(self._images.layers.addition()))
            session = Session(
                self._options,
                layers=self._images.layers,
                addition=addition,
                scratch=self._service.scratch,
                host=host_config(self._options),
                report=self._report,
                identity=self._service.identity,
            )
            opened = contexts.open_context(self._options, context, session.scratch)
            files, text = await stack.enter_async_context(opened)
            session.contexts = {"": files, **contexts.named(self._options, files)}
            session.epoch_ns = epoch_ns(self._options)
            if self._options.call == "targets":
                self._say(Described(time_ns=time.time_ns(), document=frontend.targets(text)))
                return
            planned = await frontend.plan(text, self._options, self._resolve)
            if self._options.call:
                self._describe(planned, text)
                return
            mounts = Mounts(session, self._service.caches, self._service.secrets)
            executor = Executor(session, self._service.runner, mounts, self._service.stopped)
            stack.push_async_callback(executor.close)
            solver = Solver(planned.graph, session, self._service.cache, executor)
            assembly = Assembly(
                planned,
                results=solver.results,
                bases=self._bases,
                diff_id=lambda chain_id: executor.row(chain_id).diff_id,
            )
            session.image_below, session.step_of = assembly.below, assembly.step_of
            session.cache_from = self._cache_from()
            session.devices = await self._granted(planned)
            imports = opened_imports(
                [each for each in self._options.cache_imports if not each.local_first or not self._here(each.ref)],
                session.cache_from,
                files,
                puller=self._images.puller,
                layers=session.layers,
                addition=addition,
                auths=self._auths,
                report=self._say,
            )
            session.imports = await stack.enter_async_context(imports)
            self._announce(planned)
            try:
                await self._solve(planned, solver, assembly)
                image = self._result(planned, assembly)
                if self._options.squash:
                    image = await in_thread(
                        lambda: _squash(session, executor, image, assembly.image(planned.target, 0))
                    )
                origin = None
                if wanted.any:
                    rows = [executor.row(chain_id) for chain_id in image.layers]
                    subject = attaching.Subject(image, rows, names)
                    origin = await in_thread(lambda: self._attest(session, planned, text, subject, wanted, started_ns))
            except BaseException:
                await whole(self._keep(session, solver, planned, assembly, None))
                raise
            made = NewImage(image.document, image.layers, [str(name) for name in names], image.parent, origin=origin)
            await whole(self._keep(session, solver, planned, assembly, made))
        if self._unused:
            said = f"[Warning] One or more build-args [{' '.join(self._unused)}] were not consumed"
            self._say(Warned(time_ns=time.time_ns(), message=said))
        shown = tuple(name.familiar for name in names)
        await self._service.exporter.finish(
            self._options.cache_exports, self._records, image.layers, planned.graph, self._auths, self._say
        )
        for name in shown:
            self._service.emit("image", "tag", image.id, {"name": name})
        self._say(Built(time_ns=time.time_ns(), image=image.id, names=shown))
        self._service.collect_later()

    async def _granted(self, planned: Plan) -> dict[str, list[str]]:
        """Return the devices that programs get, by vertex. Raises InvalidInput when one asks for what it may not have."""
        asked = list(self._options.allow)
        if self._options.network_mode == "host":
            asked.append(entitlements.NETWORK_HOST)  # who chooses the network of all steps allows it
        granted = entitlements.grant(asked, self._service.entitlements)
        needed = planned.graph.needed(stage.result for stage in planned.stages)
        runs = {each.id: each.operation for each in needed if isinstance(each.operation, Run)}
        for run in runs.values():
            entitlements.check(run, granted)
        if not any(run.devices for run in runs.values()):
            return {}
        found = await in_thread(self._service.runner.devices)
        return {id: entitlements.devices(run, granted, found) for id, run in runs.items() if run.devices}

    def _describe(self, planned: Plan, text: Dockerfile) -> None:
        if self._options.call == "outline":
            self._say(Described(time_ns=time.time_ns(), document=frontend.outline(text, planned)))
            return
        self._warn(planned)
        source, fails = text.text.decode("utf-8", "replace"), planned.warnings_fail
        self._say(Checked(time_ns=time.time_ns(), name=text.name, text=source, fails=fails))

    # steps

    async def _solve(self, planned: Plan, solver: Solver, assembly: Assembly) -> None:
        following = [
            asyncio.get_running_loop().create_task(self._follow(stage, solver, assembly)) for stage in planned.stages
        ]
        try:
            self._records = solver.records
            wanted = {stage.result for stage in planned.stages} | {
                step.vertex for stage in planned.stages for step in stage.steps if step.vertex
            }
            await solver.solve(sorted(wanted))
            await asyncio.gather(*following)
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def _follow(self, stage: Stage, solver: Solver, assembly: Assembly) -> None:
        """Make the images of a stage's steps as their results come, in order, and tell of them."""
        cached = True
        for number, step in enumerate(stage.steps):
            if step.vertex:
                await solver.wait(step.vertex)
                cached = cached and step.vertex in solver.results and solver.results[step.vertex].cached
            image = assembly.image(stage, number)
            if not step.vertex:
                cached = cached and not self._options.no_cache and bool(image.id) and self._exists(image.id)
            last = number == len(stage.steps) - 1
            if not last and stage.steps[number + 1].number == step.number:
                continue
            self._say(
                StepDone(time_ns=time.time_ns(), step=step.number, image=image.id, cached=cached, stage_ends=last)
            )
            cached = True

    def _exists(self, id: str) -> bool:
        try:
            self._images.get(id)
        except NotFound:
            return False
        return True

    def _attest(
        self,
        session: Session,
        planned: Plan,
        text: Dockerfile,
        subject: attaching.Subject,
        wanted: Wanted,
        started_ns: int,
    ) -> Origin:
        facts = None
        if wanted.provenance:
            facts = attaching.facts(session, planned, text, self._bases, subject.image.id, started_ns)
        return attaching.attach(session.layers, subject, wanted, facts)

    def _result(self, planned: Plan, assembly: Assembly) -> StepImage:
        image = assembly.image(planned.target, len(planned.target.steps) - 1)
        if not image.id:
            raise InvalidInput("No image was generated. Is your Dockerfile empty?")
        if any(each.type == "inline" for each in self._options.cache_exports):
            return inlined(image, self._records)
        return image

    async def _keep(
        self,
        session: Session,
        solver: Solver,
        planned: Plan,
        assembly: Assembly,
        final: NewImage | None,
    ) -> None:
        """Store the images of all steps that have a result, the ``final`` one, and what the cache learnt."""
        images: dict[str, NewImage] = {}
        for stage in planned.stages:
            for number in range(len(stage.steps)):
                try:
                    made = assembly.image(stage, number)
                except KeyError:  # a result that there is not
                    break
                if made.id and made.id not in self._bases:
                    images.setdefault(made.id, NewImage(made.document, made.layers, (), made.parent))
        if final is not None:
            id = digest_of(final.document)
            images.pop(id, None)
            images[id] = final
        cache = self._service.cache
        try:
            await asyncio.to_thread(session.addition.commit, list(images.values()))
            await asyncio.to_thread(cache.keep, solver.found, solver.used)
        except BaseException:
            cache.withdraw(solver.found)
            raise

    # beginnings

    async def _resolve(self, reference: str, platform: str, name: str) -> Base:
        """Find the image that a stage begins with, or pull it; nothing is pulled for a description.

        Raises NotFound and what pulling raises.
        """
        del name
        if not self._options.pull or self._options.call:
            with contextlib.suppress(NotFound):
                return self._base(self._images.resolve(reference))
        if self._options.call:
            return Base(id="", layers=(), config=ContainerConfig(), platform="", is_known=False)
        parsed = references.parse(reference)
        auth = registry_auth(self._auths, parsed)
        tag = "" if parsed.digest else (parsed.tag or "latest")
        async for message in self._images.pull(
            parsed.familiar if parsed.digest else parsed.familiar_name, tag, platform=platform or None, auth=auth
        ):
            self._say(Pulling(time_ns=time.time_ns(), message=message))
        return self._base(self._images.resolve(reference))

    def _here(self, reference: str) -> bool:
        try:
            self._images.resolve(reference)
        except NotFound:
            return False
        return True

    def _cache_from(self) -> list[Image]:
        """Return the images of ``--cache-from`` that are here; others, and what is no name, cannot serve, as in Docker."""
        found = []
        for reference in self._options.cache_from:
            with contextlib.suppress(NotFound, InvalidInput):
                found.append(self._images.resolve(reference))
        return found

    def _base(self, image: Image) -> Base:
        self._bases[image.id] = image
        return Base(
            id=image.id,
            layers=tuple(image.layers),
            config=image.config,
            platform=f"{image.os}/{image.architecture}",
            created=image.image_config.created or "",
        )

    def _announce(self, planned: Plan) -> None:
        self._report(planned)
        steps: dict[str, tuple[int, Stage | None]] = {}
        for stage in planned.stages:
            for step in stage.steps:
                steps.setdefault(step.vertex, (step.number, stage))
        needed = planned.graph.needed(stage.result for stage in planned.stages)
        rows = []
        for each in needed:
            number, owner = steps.get(each.id, (0, None))
            shown = (owner.name or str(owner.index)) if owner is not None else ""
            rows.append(Row(vertex=each.id, name=each.name, inputs=each.inputs, step=number, stage=shown))
        self._say(Planned(time_ns=time.time_ns(), vertices=tuple(rows)))
        self._warn(planned)
        self._unused = list(planned.unused_args)

    def _warn(self, planned: Plan) -> None:
        for each in planned.warnings:
            self._say(
                Warned(
                    time_ns=time.time_ns(),
                    message=each.message,
                    rule=each.rule,
                    line=each.line,
                    end_line=each.end_line,
                    url=each.url,
                )
            )

    def _say(self, event: AnyEvent) -> None:
        self._report(event)


def _squash(session: Session, executor: Executor, image: StepImage, base: StepImage) -> StepImage:
    rows = [executor.row(chain_id) for chain_id in image.layers[len(base.layers) :]]
    return squash(session.layers, session.addition, image, base, rows, session.now_ns())
