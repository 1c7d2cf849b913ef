"""Volumes: directories that outlive containers, kept below the data root by the driver ``local``.

Owns the directories ``<data-root>/volumes/<name>``, their rows in the store, and what the volumes' options have mounted there.

Words: a volume is *anonymous* when nobody named it, *in use* while a container refers to it, running or not, *dangling*
when no container does. *Copy-up* fills an empty volume with what the image has at its place.
"""

from boxship.volumes.service import VolumeService
from boxship.volumes.timeline.history import VolumeHistory

__all__ = ["VolumeHistory", "VolumeService"]
