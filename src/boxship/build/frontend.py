"""Where Dockerfiles become plans: what ``build.dockerfile`` is told of a build."""

from __future__ import annotations

from typing import Any

from boxship.build import dockerfile
from boxship.build.context import Dockerfile
from boxship.build.dockerfile import Base, PlanOptions, Resolve
from boxship.build.plan import Plan
from boxship.images import platform as platforms
from boxship.spec.docker.build import BuildOptions

__all__ = ["Base", "outline", "plan", "targets"]


def targets(text: Dockerfile) -> dict[str, Any]:
    """Return the document of ``--call=targets``. Raises DockerfileError."""
    return dockerfile.targets(dockerfile.parse(text.text, text.name))


def outline(text: Dockerfile, planned: Plan) -> dict[str, Any]:
    """Return the document of ``--call=outline``."""
    return dockerfile.outline(dockerfile.parse(text.text, text.name), planned)


async def plan(text: Dockerfile, options: BuildOptions, resolve: Resolve) -> Plan:
    """Return the plan of a Dockerfile. Raises DockerfileError, InvalidInput and what ``resolve`` raises."""
    file = dockerfile.parse(text.text, text.name)
    here = platforms.host()
    host = f"{here.os}/{here.architecture}"
    return await dockerfile.plan(
        file,
        PlanOptions(
            build_args=options.build_args,
            target=options.target,
            platform=options.platform or host,
            build_platform=host,
            no_cache=options.no_cache,
            no_cache_filter=options.no_cache_filter,
            labels=options.labels,
            network=options.network_mode,
            contexts=options.build_contexts,
            check_only=bool(options.call),
            ignored=text.ignored,
        ),
        resolve,
    )
