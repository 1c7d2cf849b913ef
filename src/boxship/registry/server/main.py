"""The program: ``serve``, ``garbage-collect``, ``verify``, ``repair`` and ``htpasswd``, as ``boxship registry`` starts it.

Prints nothing on the way but its log; ends with 1 and one line when the configuration, the storage or the address can't be
used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import ssl
import sys
from collections.abc import Sequence

from aiohttp import web

from boxship.base.errors import BoxshipError, InvalidInput
from boxship.registry.server.app import MAX_LINE, Application, put_headers
from boxship.registry.server.config import Config, load, seconds
from boxship.registry.server.connections import Connections, limit_unread_answers, most_connections
from boxship.registry.server.htpasswd import make_line
from boxship.registry.server.metrics import Metrics, State
from boxship.registry.server.notifications import Notifier
from boxship.registry.server.proxy import Proxy
from boxship.registry.server.service import LONGEST, Service, Storage, open_access, open_storage

log = logging.getLogger("boxship.registry")

USAGE = "usage: registry serve|garbage-collect|verify|repair [CONFIG] | registry htpasswd USER"
BACKLOG = 1024
LINGERING = 10.0  # seconds in which what a refused client still sends is read, so that it gets to see the answer
_LEVELS = {"panic": 50, "fatal": 50, "error": 40, "warn": 30, "warning": 30, "info": 20, "debug": 10, "trace": 10}


def main(words: Sequence[str]) -> int:
    """Run one command; return the exit status."""
    if words[:1] == ["registry"]:  # as the reference registry's image is told
        words = words[1:]
    if len(words) == 1 and words[0].endswith((".yml", ".yaml")):
        words = ["serve", *words]
    try:
        match words:
            case ["serve" | "garbage-collect", *rest] if len(rest) <= 1:
                config = _load(rest[0] if rest else "")
                _start_log(config)
                return asyncio.run(serve(config) if words[0] == "serve" else collect(config))
            case ["verify" | "repair", *rest] if len(rest) <= 1:
                return verify(_load(rest[0] if rest else ""), repair=words[0] == "repair")
            case ["htpasswd", user]:
                print(make_line(user, sys.stdin.readline().rstrip("\n")))
                return 0
        print(USAGE, file=sys.stderr)
        return 125
    except BoxshipError as exc:
        print(f"registry: {exc}", file=sys.stderr)
    except OSError as exc:
        print(f"registry: {exc.filename or 'system'}: {exc.strerror or exc}", file=sys.stderr)
    return 1


async def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is under way within ``http.draintimeout``."""
    descriptors = _raise_file_limit()
    storage = open_storage(config)
    try:
        if storage.blobs.repaired.missing:
            log.error("files of %d blobs are missing; push their images again", len(storage.blobs.repaired.missing))
        metrics = Metrics(lambda: _state(storage))
        notifier = Notifier(config.notifications.endpoints, metrics.events, config.http.addr)
        proxy = _open_proxy(config, storage, metrics)
        service = Service(config, storage, open_access(config), notifier, metrics, proxy)
        app = Application(service).make()
        app.on_response_prepare.append(put_headers)
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=min(seconds(config.http.clients.head), LONGEST),
            lingering_time=min(service.stall, LINGERING),
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            shutdown_timeout=min(seconds(config.http.draintimeout), 3600),
            auto_decompress=False,  # what clients push is stored as it is
        )
        await runner.setup()
        try:
            assert runner.server is not None
            most = most_connections(config.http.clients.connections, descriptors)
            await _run(config, Connections(runner.server, most), service)
        finally:
            await runner.cleanup()
            if proxy is not None:
                await proxy.close()
    finally:
        storage.close()
    return 0


def _raise_file_limit() -> int:
    """Take all descriptors that this process may have, each client is one; return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


async def collect(config: Config) -> int:
    """Do one round of garbage collection on a registry that does not run; the grace counts from when things came."""
    storage = open_storage(config)
    try:
        await (
            storage.collector.collect()
        )  # its grace counts from the start of this process: retention and manifests only
        done = storage.collector.total
    finally:
        storage.close()
    for name, value in done._asdict().items():
        print(f"{name}: {value}")
    return 0


def verify(config: Config, *, repair: bool) -> int:
    """Read every blob of a registry that does not run and print the damaged ones; ``repair`` removes them.

    A removed blob comes back with the next push of an image that has it. Returns 1 if any is damaged still.
    """
    storage = open_storage(config)
    try:
        lost = [*storage.blobs.repaired.missing, *storage.blobs.damaged()]
        for digest in lost:
            print(digest)
        if repair:
            storage.blobs.forget(lost)
    finally:
        storage.close()
    return 1 if lost and not repair else 0


async def _run(config: Config, connections: Connections, service: Service) -> None:
    server = await _listen(config, connections, service.stall)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("listening on %s", ", ".join(_address(each.getsockname()) for each in server.sockets))
    collection = config.storage.maintenance.garbagecollection
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service.notifier.run())]
        rounds = service.storage.collector.run(seconds(collection.interval), garbage=collection.enabled)
        tasks.append(group.create_task(rounds))
        await stop.wait()
        server.close()
        for task in tasks:
            task.cancel()


async def _listen(config: Config, connections: Connections, stall: float) -> asyncio.Server:
    tls = _tls_context(config)
    loop = asyncio.get_running_loop()
    if config.http.net == "unix":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(config.http.addr)
        return await loop.create_unix_server(connections, config.http.addr, backlog=BACKLOG)
    host, port = split_address(config.http.addr)
    server = await loop.create_server(connections, host or None, port, ssl=tls, backlog=BACKLOG)
    limit_unread_answers(server.sockets, stall)
    return server


def _address(address: object) -> str:
    """Return a bound address as people write it; port 0 of the configuration is the real one here."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address)


def split_address(text: str) -> tuple[str, int]:
    """Return host ("" for all) and port of ``:5000``, ``localhost:5000`` or ``[::1]:5000``. Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"http.addr: {text!r} is no address")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _tls_context(config: Config) -> ssl.SSLContext | None:
    tls = config.http.tls
    if not tls.certificate and not tls.key:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.minimum_version = _TLS_VERSIONS[tls.minimumtls]
    except KeyError:
        raise InvalidInput(f"http.tls.minimumtls: {tls.minimumtls!r} is none of {', '.join(_TLS_VERSIONS)}") from None
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        for path in tls.clientcas:
            context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as exc:
        raise InvalidInput(f"http.tls: {tls.certificate}, {tls.key}: {exc}") from exc
    if tls.clientcas:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


_TLS_VERSIONS = {"tls1.2": ssl.TLSVersion.TLSv1_2, "tls1.3": ssl.TLSVersion.TLSv1_3}


def _open_proxy(config: Config, storage: Storage, metrics: Metrics) -> Proxy | None:
    if not config.proxy.remoteurl:
        return None
    return Proxy(
        config.proxy.remoteurl,
        username=config.proxy.username,
        password=config.proxy.password,
        repositories=storage.repositories,
        uploads=storage.uploads,
        outcomes=metrics.proxy,
    )


def _state(storage: Storage) -> State:
    collected = storage.collector.total
    return State(
        *storage.repositories.counts(),
        *storage.blobs.totals(),
        len(storage.uploads.listing()),
        storage.collector.rounds,
        collected.blobs,
        collected.bytes,
    )


def _load(path: str) -> Config:
    path = path or os.environ.get("REGISTRY_CONFIGURATION_PATH", "")
    text = ""
    if path:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    return load(text, os.environ)


def _start_log(config: Config) -> None:
    level = _LEVELS.get(config.log.level, logging.INFO)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if config.log.accesslog.get("disabled"):
        logging.getLogger("boxship.registry.access").setLevel(logging.WARNING)
