"""How an image was made, as the predicate of SLSA's provenance v1 (pure); fields beyond SLSA's are BuildKit's.

``mode=min`` tells no build arguments, labels, secrets and agents, ``mode=max`` all but the values of secrets and the
predefined proxies, whose addresses may hold passwords. With SOURCE_DATE_EPOCH equal builds give equal documents.
Sources: https://slsa.dev/spec/v1.1/provenance; BuildKit's docs/attestations/slsa-definitions.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from boxship.base import clock
from boxship.build.attestations.request import Wanted
from boxship.build.context import ALIAS, Dockerfile, is_git
from boxship.build.dockerfile.scope import PROXIES
from boxship.build.graph import Context, Graph, Run
from boxship.images import platform as platforms
from boxship.images.reference import is_id, parse
from boxship.spec.docker.build import BuildOptions

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_IMAGE = "docker-image://"


class Material(NamedTuple):
    """Something that the build was made of; ``digest`` is ``algorithm:value``."""

    uri: str
    digest: str


class Facts(NamedTuple):
    """What is known of a build when it has ended."""

    options: BuildOptions
    dockerfile: Dockerfile
    graph: Graph  # what was needed
    materials: Sequence[Material]
    image: str  # id
    started_ns: int
    ended_ns: int
    epoch_ns: int | None
    invocation: str  # a random word for this build


def predicate(facts: Facts, wanted: Wanted) -> dict[str, Any]:
    """Return the predicate."""
    whole = wanted.provenance == "max"
    internal: dict[str, Any] = {"builderPlatform": platforms.shown(platforms.host())}
    if facts.epoch_ns is not None:
        internal["sourceDateEpoch"] = str(facts.epoch_ns // 1_000_000_000)
    if whole:
        internal["buildConfig"] = {"graph": _graph(facts.graph)}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"configSource": _source(facts), "request": _request(facts, whole=whole)},
            "internalParameters": internal,
            "resolvedDependencies": [_dependency(material) for material in sorted(set(facts.materials))],
        },
        "runDetails": {"builder": {"id": wanted.builder_id}, "metadata": _metadata(facts, wanted, whole=whole)},
    }


def docker_purl(reference: str, platform: str) -> str:
    """Return the package URL of an image by its name."""
    if is_id(reference):
        return f"pkg:docker/{quote(reference, safe='')}"
    parsed = parse(reference).with_default_tag()
    version = f"@{parsed.tag}" if parsed.tag else ""
    qualifiers = [f"digest={parsed.digest}"] if parsed.digest else []
    qualifiers += [f"platform={quote(platform, safe='')}"] if platform else []
    return f"pkg:docker/{parsed.familiar_name}{version}{'?' if qualifiers else ''}{'&'.join(qualifiers)}"


def without_password(url: str) -> str:
    """Return a URL without the user and password that may stand in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _source(facts: Facts) -> dict[str, Any]:
    source: dict[str, Any] = {"path": _name(facts.dockerfile)}
    remote = without_password(facts.options.remote)
    if remote:
        source["uri"] = remote
        found = [material.digest for material in facts.materials if material.uri == remote]
        if found:
            source["digest"] = _digest(found[0])
    return source


def _name(dockerfile: Dockerfile) -> str:
    return "Dockerfile" if dockerfile.name.startswith(ALIAS) else dockerfile.name


def _request(facts: Facts, *, whole: bool) -> dict[str, Any]:
    options = facts.options
    args = {
        "target": options.target,
        "platform": options.platform,
        "force-network-mode": options.network_mode,
        "add-hosts": ",".join(options.extra_hosts).replace(":", "=") if options.extra_hosts else "",
        "shm-size": str(options.shm_size) if options.shm_size else "",
        "cgroup-parent": options.cgroup_parent,
    }
    args = {key: value for key, value in args.items() if value}
    if options.no_cache:
        args["no-cache"] = ""
    if options.squash:
        args["squash"] = ""
    for name, value in sorted(options.build_contexts.items()):
        args[f"context:{name}"] = value if value.startswith(_IMAGE) else f"local:{name}"
    request: dict[str, Any] = {"frontend": "dockerfile.v0", "args": args}
    if whole:
        args |= {f"build-arg:{name}": value for name, value in _counted(options.build_args).items()}
        args |= {f"label:{name}": value for name, value in sorted(options.labels.items())}
        request["secrets"] = [{"id": id} for id in sorted(options.secrets)]
        request["ssh"] = [{"id": id} for id in sorted(options.ssh)]
    request["locals"] = [] if options.remote else [{"name": "context"}, {"name": "dockerfile"}]
    return request


def _counted(arguments: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in sorted(arguments.items()) if value is not None and name not in PROXIES}


def _graph(graph: Graph) -> list[Any]:
    """Return the steps without what counts for no result and may hold passwords."""
    rows: list[Any] = []
    for each in graph:
        operation = each.operation
        if isinstance(operation, Run):
            operation = msgspec.structs.replace(operation, uncounted_env=())
        rows.append(msgspec.to_builtins(msgspec.structs.replace(each, operation=operation)))
    return rows


def _metadata(facts: Facts, wanted: Wanted, *, whole: bool) -> dict[str, Any]:
    fixed = facts.epoch_ns
    invocation = facts.invocation if fixed is None else hashlib.sha256(facts.image.encode()).hexdigest()[:25]
    is_local = not is_git(facts.options.remote) and any(isinstance(each.operation, Context) for each in facts.graph)
    own = {"infos": [{"filename": _name(facts.dockerfile), "language": "Dockerfile", "data": facts.dockerfile.text}]}
    return {
        "invocationID": invocation,
        "startedOn": clock.rfc3339(facts.started_ns if fixed is None else fixed),
        "finishedOn": clock.rfc3339(facts.ended_ns if fixed is None else fixed),
        "buildkit_metadata": {"source": own} if whole else {},
        "buildkit_hermetic": all(
            each.operation.network == "none" for each in facts.graph if isinstance(each.operation, Run)
        ),
        "buildkit_completeness": {"request": whole, "resolvedDependencies": not is_local},
        "buildkit_reproducible": wanted.reproducible,
    }


def _dependency(material: Material) -> dict[str, Any]:
    return {"uri": material.uri, "digest": _digest(material.digest)}


def _digest(text: str) -> dict[str, str]:
    algorithm, _, value = text.partition(":")
    return {algorithm: value}
