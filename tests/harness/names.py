"""A nameserver under test, told what to answer as the network service would tell it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from boxship.engine.processes.nameserver import Nameserver
from boxship.networks.names import EndpointNames, Resolver, Upstream
from harness import waiting
from harness.netns import NetworkNamespace, run

T = TypeVar("T")


class Names:
    """The daemon's end of a nameserver, on an event loop of its own; ends the process with :meth:`close`."""

    def __init__(self, directory: Path | None = None) -> None:
        self._own = None if directory else Path(tempfile.mkdtemp(prefix="boxship-names-"))
        self.directory = directory or self._own
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.end = Nameserver(str(self.directory))
        self._sandboxes: dict[NetworkNamespace, Path] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def start(self, resolvers: Sequence[Resolver] = (), endpoints: Sequence[EndpointNames] = ()) -> None:
        self.run(self.end.start(resolvers, endpoints))

    def attach(self, resolver: Resolver) -> None:
        self.run(self.end.attach(resolver))

    def detach(self, sandbox_id: str) -> None:
        self.run(self.end.detach(sandbox_id))

    def publish(self, endpoint: EndpointNames) -> None:
        """Publish names; what is asked afterwards sees them."""

        async def work() -> None:
            self.end.publish(endpoint)
            await self.end.status()

        self.run(work())

    def status(self) -> dict[str, Any]:
        return self.run(self.end.status())

    def sandbox(self) -> NetworkNamespace:
        """Return a new namespace that plays a container; it goes with :meth:`close`."""
        namespace = NetworkNamespace()
        path = Path(tempfile.mkdtemp(prefix="boxship-netns-"), "net")
        path.touch()
        run("mount", "--bind", namespace.path, str(path))
        self._sandboxes[namespace] = path
        return namespace

    def resolver(
        self,
        namespace: NetworkNamespace,
        *networks: str,
        upstreams: Sequence[str] = (),
        links: dict[str, str] | None = None,
        forward: bool = True,
        single_labels: bool = True,
        on_host: bool = False,
    ) -> Resolver:
        """Return what is answered in a namespace of :meth:`sandbox`; its networks are "front" unless they are named."""
        return Resolver(
            sandbox_id=f"sandbox-{namespace.pid}",
            key=str(self._sandboxes[namespace]),
            network_ids=list(networks or ("front",)),
            links=links or {},
            upstreams=[Upstream(address=address, on_host=on_host) for address in upstreams],
            forward=forward,
            single_labels=single_labels,
        )

    def pid(self) -> int:
        """Return the process id of the nameserver that has this directory."""
        for comm in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if comm.read_text() == "boxship-dns\n":
                    words = (comm.parent / "cmdline").read_bytes()
                    if repr(str(self.directory)).encode() in words:
                        return int(comm.parent.name)
        return 0

    def leave(self) -> None:
        """Let go of the process, as a daemon that ends does."""
        self.run(self.end.close(stop=False))
        self._end_loop()

    def close(self) -> None:
        """End the process, and all namespaces."""
        if not self._loop.is_closed():
            self.run(self.end.close(stop=True))
            self._end_loop()
        waiting.until(lambda: not self.pid())
        for namespace, path in self._sandboxes.items():
            run("umount", str(path))
            shutil.rmtree(path.parent)
            namespace.close()
        if self._own is not None:
            shutil.rmtree(self._own)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def endpoint(name: str, *addresses: str, network: str = "front", aliases: Sequence[str] = ()) -> EndpointNames:
    """Return the names of an endpoint in a network whose id is its name."""
    return EndpointNames(
        endpoint_id=f"{network}/{name}",
        network_id=network,
        network=network,
        name=name,
        aliases=list(aliases),
        addresses=list(addresses),
    )
