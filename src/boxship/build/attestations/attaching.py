"""Makes the attestations of an image and stores them: what the image's name shall mean is then an index."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from boxship.base.errors import InvalidInput, NotFound
from boxship.base.ids import new_id
from boxship.build.attestations import materials, provenance, scan, spdx, storage
from boxship.build.attestations.packages import Distribution
from boxship.build.attestations.provenance import Facts
from boxship.build.attestations.request import Wanted
from boxship.build.attestations.scan import Contents
from boxship.build.context import Dockerfile
from boxship.build.graph import Graph
from boxship.build.outcome.assembly import StepImage, time_ns
from boxship.build.plan import Plan
from boxship.images import platform as platforms
from boxship.images.indexes import Member, Origin
from boxship.images.layers import LEASE, LayerStore, failures
from boxship.images.model import Image, LayerRow
from boxship.images.reference import Reference
from boxship.spec.oci import DOCUMENT_LIMIT, Platform

if TYPE_CHECKING:
    from boxship.build.session import Session

_ROOM = DOCUMENT_LIMIT - 1024  # bytes of all statements: what engines pull has a configuration beside them


class Subject(NamedTuple):
    """An image that was built and not yet committed; the session's addition holds its layers."""

    image: StepImage
    rows: Sequence[LayerRow]  # of its layers, bottom first
    names: Sequence[Reference]


def facts(
    session: Session,
    planned: Plan,
    text: Dockerfile,
    bases: Mapping[str, Image],
    image: str,
    started_ns: int,
) -> Facts:
    """Return what provenance says of a build that has its image. Blocks: contexts are hashed."""
    needed = Graph(planned.graph.needed([planned.target.result]))
    return Facts(
        options=session.options,
        dockerfile=text,
        graph=needed,
        materials=[
            *materials.of_remote(session.options.remote, session.contexts[""]),
            *materials.of_vertices(needed, session.fetched, bases),
            *materials.of_contexts(needed, session.contexts, text),
        ],
        image=image,
        started_ns=started_ns,
        ended_ns=time.time_ns(),
        epoch_ns=session.epoch_ns,
        invocation=new_id()[:25],
    )


def attach(layers: LayerStore, subject: Subject, wanted: Wanted, facts: Facts | None) -> Origin:
    """Store what is attested about an image, and return the index over both, for the commit of the image.

    ``facts`` are needed for provenance, which is left out without them. Blocks. Raises InvalidInput for what is too large to travel.
    """
    image, names = subject.image, subject.names
    made = storage.image_manifest(image.document, subject.rows)
    predicates: list[tuple[str, Any]] = []
    if wanted.sbom:
        found = look(layers, image.layers[-1] if image.layers else "")
        name = names[0].familiar if names else ""
        predicates.append((spdx.PREDICATE, spdx.document(image.id, name, found, image.created_ns)))
    if facts is not None:
        predicates.append((provenance.PREDICATE, provenance.predicate(facts, wanted)))
    platform = Platform(
        os=image.config.os or "linux", architecture=image.config.architecture, variant=image.config.variant
    )
    urls = [provenance.docker_purl(name.familiar, platforms.shown(platform)) for name in names]
    statements = [(type, storage.statement(type, predicate, made, urls)) for type, predicate in predicates]
    total = sum(len(blob.data) for _, blob in statements)
    if total > _ROOM:
        raise InvalidInput(f"the attestations take {total} bytes, more than the {_ROOM} that engines pull")
    attestation, config = storage.attestation(statements)
    index, entries = storage.index(made, platform, attestation)
    beside = [config, *(blob for _, blob in statements)]
    with failures():
        for blob in (made, attestation, *beside, index):
            layers.content.add(blob.data, blob.media_type, lease=LEASE)
    members = (
        Member(manifest=made.digest, image=image.id, platform=platform),
        Member(manifest=attestation.digest, blobs=tuple(dict.fromkeys(blob.digest for blob in beside))),
    )
    return Origin(index.digest, entries, members)


def scanned(layers: LayerStore, image: Image) -> bytes:
    """Return the SPDX document of an image of the store. Blocks. Raises NotFound when it is removed meanwhile."""
    with layers.addition() as addition:
        if not all(map(addition.reuse, image.layers)):
            raise NotFound("the image was removed meanwhile")
        found = look(layers, image.chain_id)
    name = image.references[0] if image.references else ""
    return spdx.encode(spdx.document(image.id, name, found, time_ns(image.image_config.created)))


def look(layers: LayerStore, top: str) -> Contents:
    """Return which packages are in the root filesystem of a chain ID, which the caller holds. Blocks."""
    if not top:
        return Contents(Distribution(), [], [])
    with failures(), layers.snapshotter.view(top) as root_fd:
        return scan.contents(root_fd)
