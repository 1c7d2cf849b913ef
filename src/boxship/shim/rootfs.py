"""The container's root filesystem, mounted in the host's mount namespace for as long as the container runs."""

from __future__ import annotations

import errno
import os

from boxship.linux import fscontext, mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPTIONS_LIMIT = 4095  # bytes; mount(2) takes one page of options


def mount_rootfs(description: dict[str, Any]) -> int:
    """Mount what ``rootfs`` of a start document describes. Raises OSError; nothing is mounted then.

    Returns a descriptor that keeps the mounted file system in use, so that unmounting it is quick: the last user of an
    overlay waits until the kernel has written out what the container wrote. With this descriptor that is the shim's own
    end, which nobody waits for.
    """
    target: str = description["target"]
    os.makedirs(target, mode=0o700, exist_ok=True)
    if description["type"] == "overlay":
        mount_overlay(
            description["lower"], description["upper"], description["work"], target, description.get("label") or ""
        )
    elif description["type"] == "bind":
        mount.mount(description["upper"], target, None, mount.MS_BIND | mount.MS_REC)
    else:
        raise OSError(errno.EINVAL, f"unknown type of root filesystem {description['type']!r}")
    try:
        mount.mount(None, target, None, mount.MS_PRIVATE)
        return os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        unmount(target)
        raise


def unmount(target: str) -> None:
    """Take the mount away from its place; the file system itself ends with its last user. Never raises."""
    try:
        mount.umount2(target, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    except OSError:
        pass  # taken away by somebody else


def mount_overlay(lower: list[str], upper: str, work: str, target: str, label: str = "") -> None:
    """Mount an overlay; ``lower`` has the topmost layer first, ``label`` is the SELinux label of all files. Raises OSError."""
    try:
        _mount_by_context(lower, upper, work, target, label)
    except OSError as exc:
        # ENOSYS: before Linux 5.2. EINVAL: before 6.5, which lacks lowerdir+. E2BIG, EINVAL: a name above 255 bytes.
        if exc.errno not in (errno.ENOSYS, errno.EINVAL, errno.E2BIG):
            raise
        _mount_by_options(lower, upper, work, target, label)


def _mount_by_context(lower: list[str], upper: str, work: str, target: str, label: str) -> None:
    context = fscontext.fsopen("overlay")
    try:
        fscontext.fsconfig_set_string(context, "source", "overlay")
        for layer in lower:
            fscontext.fsconfig_set_string(context, "lowerdir+", layer)
        fscontext.fsconfig_set_string(context, "upperdir", upper)
        fscontext.fsconfig_set_string(context, "workdir", work)
        fscontext.fsconfig_set_string(context, "index", "off")  # else EBUSY while the last run's mount is still ending
        if label:
            fscontext.fsconfig_set_string(context, "context", label)
        fscontext.fsconfig_create(context)
        tree = fscontext.fsmount(context)
    finally:
        os.close(context)
    place = -1
    try:
        place = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mount.move_mount(tree, place)
    finally:
        os.close(tree)
        if place >= 0:
            os.close(place)


def _mount_by_options(lower: list[str], upper: str, work: str, target: str, label: str) -> None:
    """Mount with mount(2), with names relative to the layers' common directory so that more of them fit."""
    base = os.path.commonpath([upper, work, *lower])
    layers = ":".join(_escape(os.path.relpath(layer, base)) for layer in lower)
    paths = [_escape(os.path.relpath(path, base)) for path in (upper, work)]
    options = f"index=off,lowerdir={layers},upperdir={paths[0]},workdir={paths[1]}"
    if label:
        options += f',context="{label}"'
    if len(os.fsencode(options)) > _OPTIONS_LIMIT:
        raise OSError(errno.E2BIG, f"too many layers for this kernel: {len(lower)}", target)
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(base)
        mount.mount("overlay", target, "overlay", 0, options)
    finally:
        os.fchdir(before)
        os.close(before)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
