"""The files of a container's directory that clients look at, and the record its shim leaves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from boxship.base import atomicfile, clock
from boxship.base.errors import SystemFailure
from boxship.engine.model import ContainerSpec, ContainerStatus, State
from boxship.engine.settings import EngineSettings

_DOCUMENTS = ("config.v2.json", "hostconfig.json")


class ContainerFiles:
    """Owns ``<data-root>/containers/<id>`` and the leftovers in ``<exec-root>/shims/<id>``; all methods block."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings

    def directory(self, id: str) -> str:
        """Return the container's directory."""
        return f"{self._settings.containers_dir()}/{id}"

    def state_dir(self, id: str) -> str:
        """Return the directory of the container's shim."""
        return f"{self._settings.shims_dir()}/{id}"

    def log_path(self, id: str) -> str:
        """Return the path of the json-file log."""
        return f"{self.directory(id)}/{id}-json.log"

    def create(self, spec: ContainerSpec, status: ContainerStatus) -> None:
        """Make the directory with its two JSON files; idempotent, so that repair can use it. Raises SystemFailure."""
        directory = Path(self.directory(spec.id))
        try:
            directory.mkdir(mode=0o710, parents=True, exist_ok=True)
            os.chown(directory, 0, self._settings.owner[1])
            for name in ("checkpoints", "mounts"):  # tools look for them as Docker lays them out
                (directory / name).mkdir(mode=0o700, exist_ok=True)
            self.save(spec, status)
        except OSError as exc:
            raise SystemFailure(f"write {exc.filename or directory}: {(exc.strerror or str(exc)).lower()}") from exc

    def written(self, id: str) -> bool:
        """Return whether the two JSON files are there with something in them, which a power cut may take from them."""
        try:
            return all(os.stat(f"{self.directory(id)}/{name}").st_size for name in _DOCUMENTS)
        except FileNotFoundError:
            return False

    def save(self, spec: ContainerSpec, status: ContainerStatus) -> None:
        """Write ``config.v2.json`` and ``hostconfig.json``; they are copies for people and tools, the store decides."""
        directory = self.directory(spec.id)
        document = {
            "ID": spec.id,
            "Name": f"/{spec.name}",
            "Created": clock.rfc3339(spec.created_ns),
            "Image": spec.image_id,
            "Path": spec.path,
            "Args": spec.args,
            "Config": msgspec.to_builtins(spec.config),
            "State": {
                "Running": status.alive,
                "Paused": status.state is State.PAUSED,
                "Pid": status.pid,
                "ExitCode": status.exit_code,
            },
            "Driver": self._settings.storage_driver,
            "OS": spec.platform,
            "LogPath": self.log_path(spec.id),
            "HostnamePath": f"{directory}/hostname",
            "HostsPath": f"{directory}/hosts",
            "ResolvConfPath": f"{directory}/resolv.conf",
        }
        documents = (json.dumps(document).encode(), msgspec.json.encode(spec.host_config))
        for name, data in zip(_DOCUMENTS, documents, strict=True):
            atomicfile.write(f"{directory}/{name}", data, durable=False)

    def write_network_files(self, id: str, *, hostname: str, hosts: str, resolv_conf: str) -> None:
        """Write the three files that are bound into the container; existing ones keep their inode."""
        directory = Path(self.directory(id))
        for name, text in (("hostname", f"{hostname}\n"), ("hosts", hosts), ("resolv.conf", resolv_conf)):
            path = directory / name
            path.write_text(text, encoding="utf-8", errors="surrogateescape")
            path.chmod(0o644)
            os.chown(path, *self._settings.owner)

    def prepare_state_dir(self, id: str) -> str:
        """Make an empty state directory for a new shim and return its path."""
        path = self.state_dir(id)
        shutil.rmtree(path, ignore_errors=True)
        Path(path).mkdir(mode=0o700, parents=True)
        return path

    def exit_record(self, id: str) -> dict[str, Any] | None:
        """Return what the shim wrote about the end of the container, None when it did not come to that."""
        return _record(f"{self.state_dir(id)}/exit.json")

    def state_record(self, id: str) -> dict[str, Any] | None:
        """Return what the shim wrote about its container when it ran, None when it did not come to that."""
        return _record(f"{self.state_dir(id)}/state.json")

    def remove(self, id: str) -> None:
        """Remove both directories of a container."""
        shutil.rmtree(self.directory(id), ignore_errors=True)
        shutil.rmtree(self.state_dir(id), ignore_errors=True)

    def known(self) -> tuple[set[str], set[str]]:
        """Return the ids that have a container directory, and those that have a shim directory."""
        return _entries(self._settings.containers_dir()), _entries(self._settings.shims_dir())


def _record(path: str) -> dict[str, Any] | None:
    try:
        record = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _entries(directory: str) -> set[str]:
    try:
        return {entry.name for entry in Path(directory).iterdir()}
    except FileNotFoundError:
        return set()
