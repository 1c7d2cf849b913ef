"""The nameserver process; how it begins and is talked to: :mod:`boxship.shim.resident`."""

from __future__ import annotations

import contextlib
import gc
import os

from boxship.linux import capabilities, prctl, sched
from boxship.nameserver.control import Requests
from boxship.nameserver.service import Service
from boxship.shim import resident
from boxship.shim.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_NICE = -10
_SLICE_NS = 100_000  # the shortest there is: a few queries
_CAPABILITIES = ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")  # setns(2) and nftables; nothing else of root's is needed


def main(directory: str) -> NoReturn:
    """Serve until boxshipd says stop, or is gone with nobody left to answer to."""
    listener, lock = resident.begin(directory)
    resident.settle("boxship-dns")
    _be_prompt()
    kept = capabilities.mask_of(list(_CAPABILITIES)) & capabilities.capget().permitted
    capabilities.capset(capabilities.Sets(kept, kept, 0))
    prctl.set_no_new_privs()
    loop = Loop(resident.note_error)
    resident.Control(directory, listener, lock, Requests(Service(loop)), loop)
    gc.collect()
    gc.freeze()
    loop.run()
    os._exit(0)  # the thread that enters namespaces has nothing to finish


def _be_prompt() -> None:
    """Have a processor soon: whoever waits for a name does nothing else meanwhile, and a query takes 15 us.

    This is no right to more than a share: who asks a lot needs as much of a processor to ask.
    """
    with contextlib.suppress(OSError):
        sched.set_slice(_SLICE_NS, nice=_NICE)
    with contextlib.suppress(OSError):
        sched.set_group_nice(_NICE)
