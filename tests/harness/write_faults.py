"""Each single write of an operation on images fails in turn (F3): what is said, what is left, and whether it works afterwards.

An operation is done once to count its writes below the data root. Then it is done again for each of them, with that one
failing. It has to end with the reason, or to do without that write. What failed leaves nothing behind; what it was to do
can be done at once.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from boxship.linux import seccomp
from harness import hostile
from harness.engine import Engine
from harness.failing_writes import RET_USER_NOTIF, FailingWrites
from harness.images import busybox_tar
from harness.registry_server import RegistryServer
from harness.waiting import until

OPERATIONS = ("load", "import", "pull", "commit", "push", "save", "create")
REASONS = ("no space left on device", "input/output error", "disk is full", "disk i/o error")


class Operation(NamedTuple):
    """Something that writes. ``run`` tells whether it worked and what was said, ``undo`` takes it back."""

    name: str
    run: Callable[[], tuple[bool, str]]
    undo: Callable[[], None]


class WriteFaults:
    """An engine whose writes can fail, with what the operations need. Close it with :meth:`close`."""

    def __init__(self) -> None:
        if not seccomp.action_available(RET_USER_NOTIF):
            pytest.skip("this kernel hands no system calls to a listener")
        self.engine = Engine()
        self._place = tempfile.TemporaryDirectory(prefix="boxship-writes-")
        self.writes = FailingWrites(self.engine.data_root, Path(self._place.name))
        self.engine.wrapper = self.writes.wrapper
        self._registry = RegistryServer(prefix=self.engine.namespace.prefix())
        self._pushes = 0
        try:
            self._registry.start()
            self.engine.start()
            hostile.bring(self.engine, "busybox", busybox_tar(), 'CMD ["sh"]')
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything."""
        self.writes.rest()
        self._registry.close()
        try:
            self.engine.close()
        finally:
            self.writes.close()
            self._place.cleanup()

    def operation(self, name: str) -> Operation:
        """Return one of OPERATIONS; each begins and ends with the same images, containers and volumes."""
        remote = self._name("remote")
        found: dict[str, tuple[Callable[[], tuple[bool, str]], Callable[[], None]]] = {
            "load": (lambda: self._told("/images/load", self._archive), lambda: self._untag("loaded")),
            "import": (
                lambda: self._told("/images/create?fromSrc=-&repo=imported", self._layer),
                lambda: self._untag("imported"),
            ),
            "pull": (lambda: self._told(f"/images/create?fromImage={remote}&tag=latest"), lambda: self._untag(remote)),
            "commit": (self._commit, lambda: self._untag("committed")),
            "push": (self._push, lambda: None),
            "save": (self._save, lambda: None),
            "create": (self._create, self._remove),
        }
        return Operation(name, *found[name])

    def count(self, operation: Operation) -> list[str]:
        """Return the writes of an operation that works, in order."""
        self.writes.count()
        worked, said = operation.run()
        calls = self.writes.rest()
        assert worked, said
        operation.undo()
        return calls

    def check(self, operation: Operation, number: int, error: int) -> str:
        """Do the operation with its write ``number`` failing; return what became of it."""
        before, log = self._state(), len(self.engine.log_text())
        self.writes.count(number, error)
        worked, said = operation.run()
        failed = self.writes.failed
        self.writes.rest()
        assert self.engine.process is not None
        assert self.engine.process.poll() is None, "the daemon died"
        log_text = self.engine.log_text()[log:]
        assert "Traceback" not in log_text, log_text.replace("\\n", "\n")[-1500:]
        if worked:
            operation.undo()
        else:
            assert failed, said
            assert any(reason in said.lower() for reason in REASONS), said
        hostile.until(lambda: self._state() == before, lambda: (failed, said, before, self._state()))
        checked = self.engine.boxship("system", "fsck", check=False)
        assert (checked.returncode, checked.stdout) == (0, "nothing is wrong\n"), (failed, checked)
        assert hostile.exec_(self.engine, self._running, "echo", "alive").text == "alive\n"
        again, answer = operation.run()
        assert again, (failed, said, answer)
        operation.undo()
        return f"{os.strerror(error)} at {failed or 'no write'}: {'done without it' if worked else said.strip()[-160:]}"

    # private

    def _prepare(self) -> None:
        self._layer = hostile.tar([hostile.entry("data", os.urandom(300_000))])
        layers = [hostile.tar(hostile.busybox_without()), self._layer]
        self._archive = hostile.archive({"Cmd": ["sh"]}, layers, "loaded")
        other = hostile.tar([hostile.entry("other", os.urandom(300_000))])
        hostile.load(self.engine, hostile.archive({"Cmd": ["sh"]}, [layers[0], other], "remote"))
        self.engine.docker("tag", "remote", self._name("remote"))
        self.engine.docker("push", "-q", self._name("remote"))
        self.engine.docker("rmi", "remote", self._name("remote"))
        self._running = hostile.start(self.engine, "busybox", "sleep", "1000000")
        self._changed = hostile.start(self.engine, "busybox", "sh", "-c", "head -c 200000 /dev/urandom > /new")
        until(lambda: not hostile.inspect(self.engine, self._changed)["State"]["Running"])

    def _name(self, image: str) -> str:
        return f"localhost:{self._registry.port}/{image}"

    def _state(self) -> dict[str, Any]:
        engine, root = self.engine, self.engine.data_root
        return {
            "blobs": sorted(os.listdir(root / "content/blobs/sha256")),
            "ingests": [name for name in os.listdir(root / "content/ingest") if not name.startswith("partial-")],
            "layers": sorted(os.listdir(root / "overlay2")),
            "containers": sorted(os.listdir(root / "containers")),
            "volumes": sorted(path.name for path in root.glob("volumes/*")),
            "images": sorted((row["Id"], *row["RepoTags"]) for row in engine.api("GET", "/images/json?all=1")[1]),
        }

    def _told(self, path: str, body: object = None) -> tuple[bool, str]:
        """Make a call that answers with progress, and return whether it went well and all that it said."""
        status, answer = hostile.call(self.engine, "POST", path, body)
        text = answer.decode(errors="replace")
        return status == 200 and '"error"' not in text, text

    def _commit(self) -> tuple[bool, str]:
        status, answer = hostile.call(
            self.engine, "POST", f"/commit?container={self._changed}&repo=committed&tag=latest", {}
        )
        return status == 201, answer.decode()

    def _push(self) -> tuple[bool, str]:
        self._pushes += 1
        name = self._name(f"pushed{self._pushes}")
        self.engine.docker("tag", "busybox", name)
        try:
            return self._told(f"/images/{name}/push?tag=latest")
        finally:
            self.engine.docker("rmi", name)

    def _save(self) -> tuple[bool, str]:
        try:
            status, answer = hostile.call(self.engine, "GET", "/images/busybox/get")
        except OSError as exc:
            return False, str(exc)
        return status == 200, "" if status == 200 else answer.decode()

    def _create(self) -> tuple[bool, str]:
        body = {"Image": "busybox", "HostConfig": {"Binds": ["made:/made"]}, "Volumes": {"/anonymous": {}}}
        status, answer = hostile.call(self.engine, "POST", "/containers/create?name=made", body)
        return status == 201, answer.decode()

    def _remove(self) -> None:
        assert hostile.call(self.engine, "DELETE", "/containers/made?v=1")[0] == 204
        assert hostile.call(self.engine, "DELETE", "/volumes/made")[0] == 204

    def _untag(self, name: str) -> None:
        status, answer = hostile.call(self.engine, "DELETE", f"/images/{name}")
        assert status == 200, answer


def run(faults: WriteFaults, names: Sequence[str], say: Callable[[str], None]) -> int:
    """Let every write of every operation fail with each error, tell of each, and return how many went wrong."""
    done = wrong = 0
    for operation in map(faults.operation, names):
        calls = faults.count(operation)
        for number, error in _each(len(calls)):
            done += 1
            try:
                said = faults.check(operation, number, error)
            except Exception as exc:  # the others are to be looked at, too
                wrong += 1
                said = f"WRONG at {calls[number]}: {exc!r}"
            say(f"{operation.name} {number + 1} of {len(calls)}: {said}")
    say(f"{done} faults, {wrong} wrong")
    return wrong


def _each(count: int) -> Iterator[tuple[int, int]]:
    return ((number, error) for number in range(count) for error in (errno.ENOSPC, errno.EIO))


def main(*names: str) -> int:
    """Run all, or the operations of these names; return an exit code."""
    faults = WriteFaults()
    try:
        wrong = run(faults, names or OPERATIONS, lambda line: print(line, flush=True))
    finally:
        faults.close()
    return 1 if wrong else 0
