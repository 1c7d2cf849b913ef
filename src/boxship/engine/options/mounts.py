"""Binds, volumes and tmpfs of a create request, resolved to the mounts that the runtime will make."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Protocol

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.base.ids import new_id
from boxship.engine.model import IdMap, ResolvedMount
from boxship.engine.options import idmap
from boxship.engine.rootfs import threads
from boxship.spec.docker.container import HostConfig, Mount

SOURCE_DEADLINE = 10.0  # seconds for a look at the sources of bind mounts

PROPAGATIONS = frozenset(["private", "rprivate", "shared", "rshared", "slave", "rslave"])
_MODES = (
    frozenset(["ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", "rbind", "bind"]) | PROPAGATIONS
)
_FOREIGN = {
    "bind": ("volume_options", "tmpfs_options", "image_options"),
    "volume": ("bind_options", "image_options"),
    "tmpfs": ("bind_options", "image_options"),
    "image": ("bind_options", "volume_options", "tmpfs_options"),
}  # documents of options that are for mounts of other types
_TMPFS_FLAGS = ("exec", "noexec")
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


class VolumeSource(Protocol):
    """What mounts need of the volumes: a directory by name, made when it does not exist."""

    async def ensure(
        self,
        name: str,
        *,
        driver: str,
        labels: Mapping[str, str] = {},
        options: Mapping[str, str] = {},
        anonymous: bool = False,
    ) -> str:
        """Return the host directory of the volume; driver ("": any), labels and options are those of one that is made."""


class ImageTree(Protocol):
    """An image at one place of a container."""

    image_id: str
    snapshot: str
    path: str


class ImageSource(Protocol):
    """What mounts need of the images."""

    async def ensure(self, reference: str, target: str) -> ImageTree:
        """Return the tree of an image for this container. Raises NoSuchImage."""


async def resolve(
    host: HostConfig,
    image_volumes: Mapping[str, object],
    inherited: list[ResolvedMount],
    volumes: VolumeSource,
    images: ImageSource | None = None,
) -> list[ResolvedMount]:
    """Return all mounts, one per target: image volumes, then inherited ones, binds and mounts of the request, each winning.

    ``inherited`` come from ``--volumes-from``; without ``images`` there can be none of those. Raises InvalidInput in Docker's words; two user mounts on one target too.
    """
    by_target: dict[str, ResolvedMount] = {mount.target: mount for mount in inherited}
    given: set[str] = set()
    for text in host.binds or []:
        mount = await _bind(text, host, volumes)
        _once(mount.target, given)
        by_target[mount.target] = mount
    for wanted in host.mounts or []:
        mount = await _mount(wanted, volumes, images)
        _once(mount.target, given)
        by_target[mount.target] = mount
    for target, options in (host.tmpfs or {}).items():
        clean = _target(target, target)
        _once(clean, given)
        by_target[clean] = ResolvedMount(
            type="tmpfs", source="", target=clean, mode=options, options=[o for o in options.split(",") if o]
        )
    for target in image_volumes:
        clean = _target(target, target)
        if clean not in by_target:
            by_target[clean] = await _anonymous(clean, volumes)
    return list(by_target.values())


async def check_sources(mounts: list[ResolvedMount]) -> None:
    """Raise InvalidInput when a ``--mount type=bind`` source does not exist, DeadlineExceeded when that cannot be told."""
    if any(mount.type == "bind" for mount in mounts):
        await threads.answered(lambda: _check_sources(mounts), SOURCE_DEADLINE, _silent(mounts))


async def make_sources(mounts: list[ResolvedMount], owner: tuple[int, int] = (0, 0)) -> None:
    """Create the missing host directories of ``-v`` binds for the uid and gid ``owner``, as Docker does.

    Raises DeadlineExceeded, SystemFailure.
    """
    if any(mount.type == "bind" for mount in mounts):
        await threads.answered(lambda: _make_sources(mounts, owner), SOURCE_DEADLINE, _silent(mounts))


def _silent(mounts: list[ResolvedMount]) -> str:
    sources = ", ".join(mount.source for mount in mounts if mount.type == "bind")
    return f"a file system does not answer within {SOURCE_DEADLINE:.0f} seconds; mounts need: {sources}"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _check_sources(mounts: list[ResolvedMount]) -> None:
    for mount in mounts:
        if mount.type != "bind" or not mount.must_exist:
            continue
        try:
            os.stat(mount.source)
        except OSError as exc:
            reason = f"stat {mount.source}: {_reason(exc)}"
            if isinstance(exc, (FileNotFoundError, NotADirectoryError)):
                reason = f"bind source path does not exist: {mount.source}"
            raise InvalidInput(f'invalid mount config for type "bind": {reason}') from exc


def _make_sources(mounts: list[ResolvedMount], owner: tuple[int, int]) -> None:
    for mount in mounts:
        if mount.type != "bind" or mount.must_exist or os.path.exists(mount.source):
            continue
        try:
            missing = [path for path in _upwards(mount.source) if not os.path.exists(path)]
            os.makedirs(mount.source, exist_ok=True)
            for path in missing:
                os.chown(path, *owner)
        except OSError as exc:
            text = f"error while creating mount source path '{mount.source}': mkdir {exc.filename}: {_reason(exc)}"
            raise SystemFailure(text) from exc


def _upwards(path: str) -> list[str]:
    """Return the path and all directories above it."""
    return [path] if path == "/" else [path, *_upwards(os.path.dirname(path))]


async def _bind(text: str, host: HostConfig, volumes: VolumeSource) -> ResolvedMount:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts) or not parts[-1]:
        raise InvalidInput(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return await _anonymous(_target(parts[0], text), volumes)
    source, target = parts[0], _target(parts[1], text, "bind" if parts[0].startswith("/") else "volume")
    modes = parts[2].split(",") if len(parts) == 3 else []
    unknown = [mode for mode in modes if mode not in _MODES and not idmap.is_idmap(mode)]
    if unknown or ("ro" in modes and "rw" in modes) or len(PROPAGATIONS & set(modes)) > 1:
        raise InvalidInput(f"invalid mode: {parts[2]}")
    mode = parts[2] if len(parts) == 3 else ""
    read_only = "ro" in modes
    owners = next((idmap.parse(each.partition("=")[2]) for each in modes if idmap.is_idmap(each)), None)
    if source.startswith("/"):
        propagation = next((m for m in modes if m in PROPAGATIONS), "rprivate")
        return ResolvedMount(
            type="bind",
            source=clean_target(source),
            target=target,
            mode=mode,
            read_only=read_only,
            read_only_below=read_only and "bind" not in modes,
            propagation=propagation,
            recursive="bind" not in modes,
            idmap=owners,
        )
    if not _VOLUME_NAME.match(source):
        raise InvalidInput(
            f'create {source}: "{source}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    driver = host.volume_driver
    directory = await volumes.ensure(source, driver=driver)
    return ResolvedMount(
        type="volume",
        source=directory,
        target=target,
        name=source,
        driver=driver or "local",
        mode=mode or "z",
        read_only=read_only,
        propagation="",
        idmap=owners,
    )


async def _mount(wanted: Mount, volumes: VolumeSource, images: ImageSource | None) -> ResolvedMount:
    where = f'invalid mount config for type "{wanted.type}"'
    if not wanted.target:
        raise InvalidInput(f"{where}: field Target must not be empty")
    target = _target(wanted.target, wanted.target)
    for field in _FOREIGN.get(wanted.type, ()):
        if getattr(wanted, field) is not None:
            raise InvalidInput(f"{where}: field {field.title().replace('_', '')} must not be specified")
    match wanted.type:
        case "bind":
            if not wanted.source:
                raise InvalidInput(f"{where}: field Source must not be empty")
            if not wanted.source.startswith("/"):
                raise InvalidInput(f"{where}: invalid mount path: '{wanted.source}' mount path must be absolute")
            options = wanted.bind_options or {}
            propagation = str(options.get("Propagation") or "rprivate")
            if propagation not in PROPAGATIONS:
                raise InvalidInput(f"{where}: invalid propagation mode: {propagation}")
            if options.get("ReadOnlyForceRecursive") and not (wanted.read_only and propagation == "rprivate"):
                lacking = "propagation rprivate" if wanted.read_only else "read-only"
                raise InvalidInput(f"{where}: ReadOnlyForceRecursive needs {lacking}")
            return ResolvedMount(
                type="bind",
                source=clean_target(wanted.source),
                target=target,
                must_exist=not options.get("CreateMountpoint"),
                read_only=wanted.read_only,
                read_only_below=wanted.read_only
                and not options.get("NonRecursive")
                and not options.get("ReadOnlyNonRecursive"),
                propagation=propagation,
                recursive=not options.get("NonRecursive"),
                idmap=_owners(options),
            )
        case "volume":
            options = wanted.volume_options or {}
            driver = str((options.get("DriverConfig") or {}).get("Name") or "")
            subpath = _subpath(options, where)
            for field, value in (("ReadOnly mode", wanted.read_only), ("Subpath", subpath)):
                if value and not wanted.source:
                    raise InvalidInput(f"{where}: must not set {field} when using anonymous volumes")
            name = wanted.source or new_id()
            directory = await volumes.ensure(
                name,
                driver=driver,
                labels=options.get("Labels") or {},
                options=(options.get("DriverConfig") or {}).get("Options") or {},
                anonymous=not wanted.source,
            )
            return ResolvedMount(
                type="volume",
                source=directory,
                target=target,
                name=name,
                driver=driver or "local",
                mode="z",
                read_only=wanted.read_only,
                propagation="",
                anonymous=not wanted.source,
                options=["nocopy"] if options.get("NoCopy") or subpath else [],
                subpath=subpath,
                idmap=_owners(options),
            )
        case "image":
            if not wanted.source:
                raise InvalidInput(f"{where}: field Source must not be empty")
            if images is None:
                raise InvalidInput(f"{where}: images are mounted when a container is created, not later")
            tree = await images.ensure(wanted.source, target)
            return ResolvedMount(
                type="image",
                source=tree.path,
                target=target,
                name=wanted.source,
                read_only=True,
                read_only_below=True,
                subpath=_subpath(wanted.image_options or {}, where),
                image_id=tree.image_id,
                snapshot=tree.snapshot,
            )
        case "tmpfs":
            if wanted.source:
                raise InvalidInput(f"{where}: field Source must not be specified")
            options = wanted.tmpfs_options or {}
            flags = [f"size={options['SizeBytes']}"] if options.get("SizeBytes") else []
            flags += [f"mode={options['Mode']:o}"] if options.get("Mode") else []
            flags += [_tmpfs_flag(each, where) for each in options.get("Options") or []]
            return ResolvedMount(type="tmpfs", source="", target=target, options=flags, read_only=wanted.read_only)
        case _:
            raise InvalidInput(f'invalid mount config for type "{wanted.type}": mount type unknown: {wanted.type}')


def _tmpfs_flag(option: list[str], where: str) -> str:
    """Return one of the options of a tmpfs that are lists: of one word, or of a name and a value, of which there is none."""
    if len(option) != 1:
        raise InvalidInput(f"{where}: invalid option array length")
    if option[0] not in _TMPFS_FLAGS:
        raise InvalidInput(f"{where}: invalid option: {option[0]!r}".replace("'", '"'))
    return option[0]


def _subpath(options: Mapping[str, object], where: str) -> str:
    subpath = str(options.get("Subpath") or "")
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise InvalidInput(f'{where}: must not be absolute or contain "..": {subpath}')
    return subpath


def _owners(options: Mapping[str, object]) -> IdMap | None:
    """Return the meaning of our own option ``IDMap``: text as after ``idmap=``, which may be empty."""
    return idmap.parse(str(options["IDMap"])) if options.get("IDMap") is not None else None


async def _anonymous(target: str, volumes: VolumeSource) -> ResolvedMount:
    name = new_id()
    directory = await volumes.ensure(name, driver="local", anonymous=True)
    return ResolvedMount(
        type="volume", source=directory, target=target, name=name, driver="local", propagation="", anonymous=True
    )


def _target(path: str, text: str, kind: str = "volume") -> str:
    if not path.startswith("/"):
        raise InvalidInput(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": invalid mount path: '{path}' mount path must be absolute"
        )
    clean = clean_target(path)
    if clean == "/":
        raise InvalidInput(
            f"invalid volume specification: '{text}': invalid mount config for type \"bind\": invalid specification: destination can't be '/'"
        )
    return clean


def _once(target: str, given: set[str]) -> None:
    if target in given:
        raise InvalidInput(f"Duplicate mount point: {target}")
    given.add(target)


def clean_target(path: str) -> str:
    """Return an absolute path without ``.``, ``..``, double or trailing slashes, by text alone."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
