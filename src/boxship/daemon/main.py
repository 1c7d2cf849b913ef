"""``boxshipd``: read the configuration, claim the data root, start the services, serve the API, end cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Sequence

import msgspec

from boxship import __version__
from boxship.base.errors import BoxshipError
from boxship.base.identity import IdentityMapping
from boxship.daemon import journal, remap
from boxship.daemon.claims import Claimed, DataRootLock, PidFile, make_directories
from boxship.daemon.config import ConfigError, DaemonConfig, ignored, load, without_effect
from boxship.daemon.flags import USAGE, Flags, UsageError, parse, usage
from boxship.daemon.listeners import addresses, tls_context
from boxship.daemon.service import Daemon, log
from boxship.http.listeners import ListenError, Listeners


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop; return the exit status."""
    program = os.path.basename(sys.argv[0]) or "boxshipd"
    try:
        flags = parse(sys.argv[1:] if arguments is None else arguments)
    except UsageError as exc:
        if str(exc).startswith("accepts"):
            exc = UsageError(f'"{program}" {exc}')
            print(f"{exc}\nSee '{program} --help'.\n{USAGE.format(program=program)}", end="", file=sys.stderr)
        else:
            print(f"{exc}\nSee '{program} --help'.", file=sys.stderr)
        return 1
    if "help" in flags.switches:
        print(usage(program), end="")
        return 0
    if "version" in flags.switches:
        print(f"Boxship version {__version__}")
        return 0
    try:
        config = load(flags)
        if "validate" in flags.switches:
            print("configuration OK", file=sys.stderr)
            return 0
        return run(config, flags)
    except (ConfigError, Claimed, ListenError) as exc:
        print(exc, file=sys.stderr)
        return 1
    except BoxshipError as exc:
        print(f"failed to start daemon: {exc}", file=sys.stderr)
        return 1


def run(config: DaemonConfig, flags: Flags) -> int:
    """Claim what this daemon needs and serve. Raises ConfigError, Claimed, ListenError before anything runs."""
    journal.configure(config.level, config.log_format)
    for name in ignored(flags):
        log.debug("flag --%s has no meaning here and is ignored", name)
    for name in without_effect(config):
        log.warning("option %s has no effect yet", name)
    if os.geteuid() != 0:
        raise ConfigError("boxshipd needs to be started with root privileges")
    os.umask(0o022)
    with contextlib.ExitStack() as claims:
        listeners = Listeners()
        where, tls = addresses(config), tls_context(config)
        try:
            config, identity = _remapped(config)
            make_directories(config.data_root, config.exec_root, group=config.group, identity=identity)
            lock = DataRootLock(config.data_root)
            claims.callback(lock.release)
            pid_file = _claim_pid_file(config.pidfile)
            claims.callback(pid_file.remove)
            _adjust_oom_score(config.oom_score_adjust)
        except OSError as exc:
            raise ConfigError(f"failed to start daemon: {exc.strerror}: {exc.filename}") from exc
        # Not needed for --help and --validate, and all of the engine.
        from boxship.daemon.wiring import start_services

        listeners.open(where, group=config.group, tls=tls)
        start = functools.partial(start_services, identity=identity)
        return asyncio.run(Daemon(config, flags, listeners, where, start).run())


def _remapped(config: DaemonConfig) -> tuple[DaemonConfig, IdentityMapping | None]:
    """Return the mapping of ``--userns-remap`` and the configuration with the data root that belongs to it."""
    identity = remap.resolve(config.userns_remap, remap.Accounts()) if config.userns_remap else None
    if identity is None:
        return config, None
    return msgspec.structs.replace(config, data_root=remap.directory(config.data_root, identity)), identity


def _claim_pid_file(path: str) -> PidFile:
    try:
        return PidFile(path)
    except Claimed as exc:
        raise Claimed(f"failed to start daemon, ensure boxshipd is not running or delete {path}: {exc}") from exc


def _adjust_oom_score(value: int) -> None:
    if value:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(value))


if __name__ == "__main__":
    sys.exit(main())
