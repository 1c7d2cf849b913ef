"""Manifest lists that are being put together, in Docker's files: ``manifests/<list>/<image>`` beside ``config.json``."""

from __future__ import annotations

import os

from boxship.cli.command import ExitError
from boxship.client import jsontext
from boxship.client.config import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.client.config import Config

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")


class ManifestLists:
    """The lists of one user; names are normalised references."""

    def __init__(self, config: Config) -> None:
        self._root = f"{config.directory}/manifests"

    def exists(self, name: str) -> bool:
        """Return whether there is such a list."""
        return os.path.isdir(self._directory(name))

    def entries(self, name: str) -> list[dict[str, Any]]:
        """Return the images of a list in the order of their names; none when there is no such list."""
        directory = self._directory(name)
        if not os.path.isdir(directory):
            return []
        return [jsontext.loads(read_file(f"{directory}/{file}")) for file in sorted(os.listdir(directory))]

    def entry(self, name: str, image: str) -> dict[str, Any] | None:
        """Return one image of a list, or None."""
        content = read_file(f"{self._directory(name)}/{_file_name(image)}")
        return jsontext.loads(content) if content else None

    def save(self, name: str, image: str, entry: dict[str, Any]) -> None:
        """Put an image into a list."""
        directory = self._directory(name)
        os.makedirs(directory, 0o755, exist_ok=True)
        temporary = f"{self._root}/.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(jsontext.dumps(entry))
        os.replace(temporary, f"{directory}/{_file_name(image)}")

    def remove(self, name: str) -> None:
        """Forget a list. Raises ExitError when there is none."""
        directory = self._directory(name)
        if not os.path.isdir(directory):
            raise ExitError(f"No such manifest: {name}")
        for file in os.listdir(directory):
            os.unlink(f"{directory}/{file}")
        os.rmdir(directory)

    def _directory(self, name: str) -> str:
        return f"{self._root}/{_file_name(name)}"


def list_document(entries: list[dict[str, Any]]) -> tuple[str, str]:
    """Return media type and text of the list with these images, as Docker writes it."""
    oci = any(entry["Descriptor"]["mediaType"] == OCI_MANIFEST for entry in entries)
    media_type = OCI_INDEX if oci else DOCKER_LIST
    manifests = []
    for entry in entries:
        descriptor = entry["Descriptor"]
        platform = descriptor.get("platform") or {}
        if not platform.get("architecture") or not platform.get("os"):
            raise ExitError(f"manifest {entry['Ref']} must have an OS and Architecture to be pushed to a registry")
        manifests.append(
            {
                "mediaType": descriptor["mediaType"],
                "size": descriptor["size"],
                "digest": descriptor["digest"],
                "platform": {key: platform[key] for key in _PLATFORM if platform.get(key)},
            }
        )
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    return media_type, jsontext.indented(document, "   ")


def _file_name(reference: str) -> str:
    """Return a normalised reference as Docker names its file; it holds no slash and does not start with a dot."""
    return reference.replace(":", "-").replace("/", "_")
