"""The image's configuration document (image-spec, config.md) with the fields that Docker adds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import field

from boxship.spec.docker.container import ContainerConfig
from boxship.spec.oci.descriptor import check_digest
from boxship.spec.oci.document import InvalidDocument, convert, parse_json

LAYER_LIMIT = 125  # what overlayfs and Docker can stack

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(?:tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_SIGNAL = re.compile(r"[A-Za-z0-9+-]{0,32}", re.ASCII)


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one layer, or one change of the configuration, came to be."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """The layers' diff IDs, bottom first."""

    type: str = "layers"
    diff_ids: list[str] | None = None

    def __post_init__(self) -> None:
        if self.type != "layers":
            raise ValueError(f"unsupported rootfs type {self.type!r}")
        for diff_id in self.diff_ids or ():
            check_digest(diff_id)


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One image; the digest of the document's bytes is the image's id, so it is kept verbatim beside this."""

    created: str | None = None
    author: str = ""
    architecture: str = ""
    variant: str = ""
    os: str = ""
    os_version: str = field(default="", name="os.version")
    config: ContainerConfig | None = None
    rootfs: RootFS
    history: list[History] | None = None
    comment: str = ""  # Docker's, as are those below
    docker_version: str = ""
    container: str = ""
    build_cache: Any = field(
        default=None, name="boxship.buildcache.v1"
    )  # a JSON document; see spec.boxship.build_cache

    @property
    def diff_ids(self) -> Sequence[str]:
        """The layers' diff IDs, bottom first."""
        return self.rootfs.diff_ids or ()


def parse_config(data: bytes) -> ImageConfig:
    """Return the configuration in ``data``. Raises InvalidDocument for a wrong type or a value no container could have."""
    config = convert(parse_json(data, "image config"), ImageConfig, "image config")
    if len(config.diff_ids) > LAYER_LIMIT:
        raise InvalidDocument("max depth exceeded")
    filled = sum(not entry.empty_layer for entry in config.history or ())
    if filled > len(config.diff_ids):
        raise InvalidDocument("invalid image config: too many non-empty layers in History section")
    if config.config is not None:
        _check(config.config)
    return config


def encode_config(config: ImageConfig) -> bytes:
    """Return the document as bytes: the same for equal values, without the fields that are not set."""
    return msgspec.json.encode(_without_defaults(msgspec.to_builtins(config)))


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Return the chain ID of each layer with all below it, bottom first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            chain.append(f"sha256:{hashlib.sha256(f'{chain[-1]} {diff_id}'.encode()).hexdigest()}")
        else:
            chain.append(diff_id)
    return chain


def _check(config: ContainerConfig) -> None:
    texts = [config.user, config.working_dir, *(config.env or ()), *(config.labels or ()), *(config.volumes or ())]
    for command in (config.cmd, config.entrypoint, config.shell):
        texts += [command] if isinstance(command, str) else command or ()
    if any("\0" in text for text in texts):
        raise InvalidDocument("invalid image config: a value contains a null byte")
    for port in config.exposed_ports or ():
        match = _PORT.fullmatch(port)
        if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) <= 65535:
            raise InvalidDocument(f"invalid image config: invalid exposed port {port!r}")
    for volume in config.volumes or ():
        if ".." in volume.split("/"):
            raise InvalidDocument(f"invalid image config: invalid volume {volume!r}")
    if config.stop_signal is not None and not _SIGNAL.fullmatch(config.stop_signal):
        raise InvalidDocument(f"invalid image config: invalid stop signal {config.stop_signal[:32]!r}")


def _without_defaults(document: dict[str, object]) -> dict[str, object]:
    """Drop from ``config`` what is empty: its struct serves API answers too, which name every field."""
    config = document.get("config")
    if isinstance(config, dict):
        document["config"] = {key: value for key, value in config.items() if value not in ("", None, False)}
    return document
