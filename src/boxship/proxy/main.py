"""The proxy's process; how it begins and is talked to: :mod:`boxship.shim.resident`."""

from __future__ import annotations

import gc
import os

from boxship.linux import capabilities, prctl
from boxship.proxy.control import Ports
from boxship.shim import resident
from boxship.shim.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

NOBODY = 65534  # the user and group of that name, by convention and by the kernel (overflowuid)


def main(directory: str) -> NoReturn:
    """Serve until boxshipd says stop, or is gone with no port left."""
    listener, lock = resident.begin(directory)
    resident.settle("boxship-proxy")
    loop = Loop(resident.note_error)
    resident.Control(directory, listener, lock, Ports(loop), loop)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    capabilities.capset(capabilities.Sets(0, 0, 0))
    prctl.set_no_new_privs()
    gc.collect()
    gc.freeze()
    loop.run()
    os._exit(0)
