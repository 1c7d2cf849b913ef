"""Platforms: this host's, those that people type, and which of an index's manifests fits."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from boxship.base.errors import InvalidInput
from boxship.spec.oci import Descriptor, ImageConfig, Platform

_GO_NAMES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armhf": "arm",
    "i686": "386",
    "i386": "386",
}
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7"}
ALL = Platform(os="all")  # no platform: asks for every one that an index has
_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def host() -> Platform:
    """Return the platform that containers run on here."""
    machine = os.uname().machine
    return Platform(os="linux", architecture=_GO_NAMES.get(machine, machine))


def parse(text: str) -> Platform:
    """Return ``os[/architecture[/variant]]`` or ``architecture`` as a platform. Raises InvalidInput."""
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidInput(f'"{text}": unknown operating system or architecture: invalid argument')
    if len(parts) == 1 and parts[0] != "linux":
        parts.insert(0, "linux")
    if parts[0] != "linux":
        raise InvalidInput(f'operating system "{parts[0]}" is not supported')
    architecture = _GO_NAMES.get(parts[1], parts[1]) if len(parts) > 1 else host().architecture
    return Platform(os="linux", architecture=architecture, variant=parts[2] if len(parts) > 2 else "")


def parse_wanted(text: str | None) -> Platform | None:
    """Return what a client that brings an image asks for: ``all`` is ALL, nothing is None. Raises InvalidInput."""
    if not text:
        return None
    return ALL if text.lower() == ALL.os else parse(text)


def shown(platform: Platform) -> str:
    """Return the platform as people type it."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def fits(config: ImageConfig, wanted: Platform) -> bool:
    """Return whether the image with this configuration is one for the platform."""
    own = Platform(os=config.os or "linux", architecture=config.architecture, variant=config.variant)
    return choose([Descriptor(digest=f"sha256:{0:064}", size=0, platform=own)], wanted) is not None


def choose(manifests: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """Return the manifest that fits best: the exact variant, then any of the architecture, then one without platform."""
    variants = (wanted.variant, _DEFAULT_VARIANT.get(wanted.architecture, ""), "")
    fitting = [
        descriptor
        for descriptor in manifests
        if descriptor.platform is not None
        and (descriptor.platform.os, descriptor.platform.architecture) == (wanted.os, wanted.architecture)
    ]
    for variant in variants:
        for descriptor in fitting:
            if descriptor.platform is not None and descriptor.platform.variant == variant:
                return descriptor
    if fitting:
        return None if wanted.variant else fitting[0]
    return next((descriptor for descriptor in manifests if descriptor.platform is None), None)
