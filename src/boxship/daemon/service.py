"""The daemon's life between its first and its last signal.

SIGTERM, SIGINT   stop: the containers (unless live-restore), the API, then the process; the third one stops at once
SIGHUP            read daemon.json again
SIGUSR1           write the stacks of all threads and tasks into a file
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from typing import Protocol

from boxship import __version__
from boxship.api.authorization import Authorizer
from boxship.api.server import Backends, make_router
from boxship.daemon import journal, stacks
from boxship.daemon.config import ConfigError, DaemonConfig, reload
from boxship.daemon.flags import Flags
from boxship.daemon.notify import notify
from boxship.http.listeners import Address, Listeners
from boxship.http.server import Server

log = logging.getLogger("boxship.daemon")

GRACE = 5.0  # seconds beyond shutdown-timeout for what is not a container
LINGER = 1.0  # seconds that open requests get at the end
IMPATIENCE = 3  # signals that end the daemon without any clean-up


class Services(Backends, Protocol):
    """What ``daemon.wiring`` starts: the backends of the API and their life."""

    @property
    def authorizer(self) -> Authorizer | None:
        """Who else decides about requests."""

    async def close(self, *, stop_containers: bool) -> None:
        """End everything; ``stop_containers`` within the configured shutdown timeout, else they go on running."""

    async def reload(self, config: DaemonConfig) -> None:
        """Take over changed settings and emit the event "daemon reload"."""


class StartServices(Protocol):
    async def __call__(self, config: DaemonConfig) -> Services: ...


class Daemon:
    """Serves the API over ``listeners``, which are open already, until a signal ends it."""

    def __init__(
        self,
        config: DaemonConfig,
        flags: Flags,
        listeners: Listeners,
        addresses: Sequence[Address],
        start_services: StartServices,
    ) -> None:
        self._config = config
        self._flags = flags
        self._listeners = listeners
        self._addresses = addresses
        self._start_services = start_services
        self._stopping = asyncio.Event()
        self._hangup = asyncio.Event()
        self._stop_signals = 0

    async def run(self) -> int:
        """Return the process's exit status."""
        self._handle_signals()
        log.info("Starting up (version %s)", __version__)
        services = await self._start_services(self._config)
        server = Server(make_router(services, experimental=self._config.experimental, authorizer=services.authorizer))
        await self._listeners.start(server)
        log.info("Daemon has completed initialization")
        for address in self._addresses:
            log.info("API listen on %s", address.path if address.scheme == "unix" else address)
        notify("READY=1")
        reloading = asyncio.create_task(self._reload_on_hangup(services))
        await self._stopping.wait()
        notify("STOPPING=1")
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)
        # Clients that wait for a container or are attached to one still hear of its end.
        await self._listeners.close()
        status = await self._close(services)
        server.pre_shutdown()
        await server.shutdown(LINGER)
        log.info("Daemon shutdown complete")
        return status

    async def _close(self, services: Services) -> int:
        timeout = self._config.shutdown_timeout
        try:
            async with asyncio.timeout(None if timeout < 0 else timeout + GRACE):
                await services.close(stop_containers=not self._config.live_restore)
        except TimeoutError:
            log.error("Services did not end within %s seconds", timeout + GRACE)
            return 1
        return 0

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        loop.add_signal_handler(signal.SIGUSR1, self._dump_stacks)

    def _stop(self, number: signal.Signals) -> None:
        self._stop_signals += 1
        log.info("Processing signal '%s'", {signal.SIGTERM: "terminated", signal.SIGINT: "interrupt"}[number])
        if self._stop_signals >= IMPATIENCE:
            log.critical("Forcing shutdown without cleanup; %d signals received", self._stop_signals)
            os._exit(128 + number)
        self._stopping.set()

    def _dump_stacks(self) -> None:
        try:
            log.info("task stacks written to %s", stacks.dump(self._config.exec_root))
        except OSError as exc:
            log.error("failed to write task stacks: %s", exc)

    async def _reload_on_hangup(self, services: Services) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            notify("RELOADING=1")
            try:
                changed = await asyncio.to_thread(reload, self._config, self._flags)
                journal.set_level(changed.level)
                await services.reload(changed)
                self._config = changed
                log.info("Reloaded configuration from %s", changed.config_file)
            except ConfigError as exc:
                log.error("%s", exc)
            except Exception:
                log.exception("reloading the configuration failed")
            notify("READY=1")
