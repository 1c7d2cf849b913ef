"""What refers to an image in its registry (distribution-spec, "Listing Referrers"), also where that is done by tags.

A registry without the list keeps it as an index under the tag ``sha256-<hex>``; cosign puts signatures, attestations and
lists of contents under that tag with a suffix. Nothing here is verified or believed: it is shown.
"""

from __future__ import annotations

from boxship.registry.client.errors import ManifestUnknown, NameUnknown
from boxship.registry.client.repository import Repository
from boxship.spec.boxship.referrers import Referrer
from boxship.spec.oci import Descriptor, Index, InvalidDocument, parse_manifest

SUFFIXES = (".sig", ".att", ".sbom")  # of cosign


async def referrers(repository: Repository, digest: str) -> list[Referrer]:
    """Return what refers to the manifest or index, each artifact once. Raises RegistryErrors, InvalidDocument."""
    tag = digest.replace(":", "-", 1)
    listed = await repository.referrers(digest)
    found = {one.digest: _referrer(one) for one in listed or ()}
    if listed is None:
        found |= {one.digest: one for one in await _tagged(repository, tag)}
    for suffix in SUFFIXES:
        for one in await _tagged(repository, tag + suffix):
            found.setdefault(one.digest, one)
    return list(found.values())


async def _tagged(repository: Repository, tag: str) -> list[Referrer]:
    """Return the artifact under the tag, or those of the index there; none when there is no such tag."""
    try:
        document = await repository.manifest(tag)
    except (ManifestUnknown, NameUnknown):
        return []
    try:
        manifest = parse_manifest(document.data, document.media_type)
    except InvalidDocument:
        return []  # somebody's own use of the tag
    if isinstance(manifest, Index):
        return [_referrer(one) for one in manifest.manifests]
    kind = manifest.layers[0].media_type if manifest.layers else manifest.config.media_type
    return [
        Referrer(
            digest=document.digest,
            media_type=document.media_type,
            artifact_type=kind,
            size=len(document.data),
            tag=tag,
            annotations=manifest.annotations or {},
        )
    ]


def _referrer(descriptor: Descriptor) -> Referrer:
    return Referrer(
        digest=descriptor.digest,
        media_type=descriptor.media_type,
        artifact_type=descriptor.artifact_type,
        size=descriptor.size,
        annotations=descriptor.annotations or {},
    )
