"""What CDI devices add to a container's OCI configuration; looks at the host's device nodes (blocking)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Any

from boxship.base.errors import SystemFailure
from boxship.engine.cdi import model
from boxship.engine.options.oci import replace_env

_BINDS = ("bind", "rbind")


def inject(document: dict[str, Any], edits: Iterable[model.Edits]) -> None:
    """Change the OCI configuration ``document`` as the ``edits`` say. Raises SystemFailure."""
    for edit in edits:
        _inject(document, edit)


def _inject(document: dict[str, Any], edit: model.Edits) -> None:
    if edit.intel_rdt or edit.net_devices:
        what = "intelRdt" if edit.intel_rdt else "netDevices"
        raise SystemFailure(f"CDI device injection failed: {what} is not supported")
    process, linux = document["process"], document["linux"]
    process["env"] = replace_env(process["env"], edit.env or [])
    for node in edit.device_nodes or []:
        device = _device(node)
        linux["devices"] = [old for old in linux["devices"] if old["path"] != node.path] + [device]
        if device["type"] in ("b", "c"):
            rule = {key: device[key] for key in ("type", "major", "minor", "access")}
            linux["resources"]["devices"].append({"allow": True, **rule})
    for mount in edit.mounts or []:
        document["mounts"] = _with_mount(document["mounts"], mount)
    for hook in edit.hooks or []:
        document.setdefault("hooks", {}).setdefault(hook.hook_name, []).append(_hook(hook))
    if groups := [gid for gid in edit.additional_gids or [] if gid]:
        present = process["user"].get("additionalGids") or []
        process["user"]["additionalGids"] = list(dict.fromkeys([*present, *groups]))


def _device(node: model.DeviceNode) -> dict[str, Any]:
    """Return an entry of ``linux.devices``; what the specification leaves open is looked up at the host's node."""
    source = node.host_path or node.path
    kind = "c" if node.type == "u" else node.type
    try:
        found = os.stat(source)
    except OSError as exc:
        if not kind or (not node.major and kind != "p"):
            reason = (exc.strerror or "").lower()
            raise SystemFailure(
                f'CDI device injection failed: failed to stat CDI host device "{source}": {reason}'
            ) from exc
        found = None
    actual = _kind(found.st_mode) if found else kind
    if not actual or (kind and kind != actual):
        raise SystemFailure(
            f'CDI device injection failed: CDI device ("{node.path}", "{source}"), host type mismatch ({kind}, {actual})'
        )
    numbers = (node.major, node.minor)
    if found and not node.major and actual != "p":
        numbers = (os.major(found.st_rdev), os.minor(found.st_rdev))
    mode = 0o666 if found is None else stat.S_IMODE(found.st_mode)
    owner = (0, 0) if found is None else (found.st_uid, found.st_gid)
    return {
        "path": node.path,
        "type": actual,
        "major": numbers[0],
        "minor": numbers[1],
        "fileMode": mode if node.file_mode is None else stat.S_IMODE(node.file_mode),
        "uid": owner[0] if node.uid is None else node.uid,
        "gid": owner[1] if node.gid is None else node.gid,
        "access": node.permissions or "rwm",
        "source": source,  # not of the runtime-spec: what is bound where a container may make no nodes
    }


def _kind(mode: int) -> str:
    return "c" if stat.S_ISCHR(mode) else "b" if stat.S_ISBLK(mode) else "p" if stat.S_ISFIFO(mode) else ""


def _with_mount(mounts: list[dict[str, Any]], mount: model.Mount) -> list[dict[str, Any]]:
    """Return ``mounts`` with one more: it replaces what is at its place, and what is beneath comes after it."""
    place = os.path.normpath(mount.container_path)
    options = list(mount.options or [])
    kind = mount.type
    if kind in ("", *_BINDS):
        kind = "bind"
        options = options if set(options) & set(_BINDS) else ["bind", *options]
    entry = {"destination": place, "type": kind, "source": mount.host_path, "options": options}
    others = [old for old in mounts if os.path.normpath(old["destination"]) != place]
    beneath = (i for i, old in enumerate(others) if os.path.normpath(old["destination"]).startswith(f"{place}/"))
    at = next(beneath, len(others))
    return [*others[:at], entry, *others[at:]]


def _hook(hook: model.Hook) -> dict[str, Any]:
    document: dict[str, Any] = {"path": hook.path}
    if hook.args:
        document["args"] = hook.args
    if hook.env:
        document["env"] = hook.env
    if hook.timeout:
        document["timeout"] = hook.timeout
    return document
