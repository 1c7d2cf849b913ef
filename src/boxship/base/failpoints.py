"""Named places at which a test kills the process, to prove that the next start repairs what was left.

``BOXSHIP_FAILPOINT=name`` ends the process with SIGKILL at its first pass of that place; ``name:3`` at the third. Unset,
a failpoint costs one dictionary look-up. The names are the table below, so that a test can walk all of them.
"""

import os
import signal

NAMES: dict[str, str] = {
    "create.before-row": "container create: writable layer exists, no row names it",
    "create.after-row": "container create: row committed, files in the container's directory not written",
    "create.done": "container create: all written, the client has no answer",
    "start.after-sandbox": "container start: network sandbox and ports exist, no process",
    "start.after-launch": "container start: the shim was asked, its answer not yet read",
    "start.after-running": "container start: process runs, the status row says created",
    "start.done": "container start: all written, the client has no answer",
    "exit.before-row": "container exit: the shim reported, the status row says running",
    "exit.after-row": "container exit: row says exited, the sandbox still exists",
    "still.frozen": "commit, volume snapshot: a container is frozen for that, and goes on when it is done",
    "change.before-row": "container change: ports changed and volumes claimed, the rows say nothing of it",
    "change.after-row": "container change: rows written, limits and mounts of the running container not",
    "change.stopped": "container change by a restart: stopped, not started again",
    "change.done": "container change: all done, the row still calls it unfinished",
    "network.made": "network create: everything on the host is made, the row is not written",
    "network.forgotten": "network rm: the row is gone, everything on the host still there",
    "disconnect.detached": "network disconnect: the running container is out of the network, its rows do not say so",
    "connect.attached": "network connect: the running container is in the network, its rows do not say so",
    "remove.after-mark": "container rm: row marked as removing, everything else in place",
    "remove.after-layer": "container rm: writable layer gone, row still there",
    "remove.after-row": "container rm: row gone, the container's directory still there",
    "volume.snapshot.gathered": "volume snapshot: the contents of files are kept, no list names them",
    "volume.restore.built": "volume restore, clone, import: the new tree is whole beside the old one",
    "volume.restore.swapped": "volume restore, clone, import: the new tree is in place, the old one still there",
    "volume.restore.emptied": "volume restore where something is mounted: the old names are aside, the new ones not up yet",
    "registry.blob.before-row": "registry upload: the blob's file is in its place, no row names it",
    "registry.blob.after-row": "registry upload: blob and link committed, the client has no answer",
    "registry.manifest.after-row": "registry push: manifest and tags committed, the client has no answer",
    "registry.collect.after-links": "registry garbage collection: links gone, blobs that nobody links still there",
    "registry.collect.before-files": "registry garbage collection: the blobs' rows gone, their files still there",
}

_chosen, _, _times = os.environ.get("BOXSHIP_FAILPOINT", "").partition(":")
_left = int(_times or 1)


def hit(name: str) -> None:
    """Die here if the environment chose this failpoint; a name that is not in the table is a bug."""
    global _left
    if name == _chosen:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
    elif name not in NAMES:
        raise KeyError(name)
