import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from boxship.base.errors import SystemFailure
from boxship.store import Store, Transaction
from boxship.store import transaction as transaction_module


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    store = Store(path)
    store.write_now(lambda t: (t.put("k", "a", b"1"), t.claim("k", "n", "a")))
    store.close()
    store = Store(path)
    with store.read() as t:
        assert (t.get("k", "a"), t.lookup("k", "n"), t.revision) == (b"1", "a", 1)
    store.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    store.write_now(lambda t: t.put("k", "a", b"1"))
    assert {entry.name: entry.stat().st_mode & 0o077 for entry in os.scandir(tmp_path)} == dict.fromkeys(
        ("db", "db-wal", "db-shm", "db-reserve"), 0
    )
    store.close()


def test_acknowledged_changes_survive_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from boxship.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for n in range(20): store.write_now(lambda t: t.put('k', str(n), b''), durable=n % 2 == 0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "db")], check=False)
    assert done.returncode == -9
    store = Store(str(tmp_path / "db"))
    with store.read() as t:
        assert t.revision == 20
    store.close()


def test_a_newer_format_is_refused_with_its_number(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SystemFailure, match=r"newer Boxship .format 99, this one knows up to 1"):
        Store(path)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 7")
    connection.close()
    with pytest.raises(SystemFailure, match="not a Boxship database"):
        Store(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"x" * 8192)
    with pytest.raises(SystemFailure, match="is damaged: file is not a database"):
        Store(str(tmp_path / "db"))


def test_damaged_pages_are_found_when_opening(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = Store(str(path))
    for n in range(200):
        store.write_now(lambda t, n=n: t.put("k", f"{n:05}", b"x" * 500), durable=False)
    store.close()
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content) - 4096, 4096):
        content[page : page + 100] = os.urandom(100)
    path.write_bytes(content)
    with pytest.raises(SystemFailure, match="damaged"):
        Store(str(path))


def test_a_flipped_bit_in_a_document_is_not_given_out(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = Store(str(path))
    store.write_now(lambda t: t.put("k", "a", b"the document"))
    store.close()
    path.write_bytes(path.read_bytes().replace(b"the document", b"the dokument"))
    store = Store(str(path))
    with store.read() as t, pytest.raises(SystemFailure, match="damaged: k a"):
        t.get("k", "a")
    store.close()


def test_a_database_error_is_not_left_to_the_caller_as_sqlites(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    with pytest.raises(SystemFailure, match="no such table"), store.read() as t:
        t._connection.execute("SELECT * FROM nowhere")
    store.close()


def test_a_closed_store_refuses_work(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    store.close()
    store.close()
    with pytest.raises(SystemFailure, match="closed"):
        store.write_now(lambda t: None)
    with pytest.raises(SystemFailure, match="closed"), store.read():
        pass


def test_changes_that_wait_are_done_before_the_store_closes(tmp_path: Path) -> None:
    async def run() -> None:
        writes = [asyncio.ensure_future(store.write(lambda t, n=n: t.put("k", str(n), b""))) for n in range(100)]
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        await asyncio.gather(*writes)

    store = Store(str(tmp_path / "db"))
    asyncio.run(run())


def test_only_the_newest_events_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_module, "EVENTS_KEPT", 3)
    store = Store(str(tmp_path / "db"))

    def append(t: Transaction) -> None:
        for n in range(1, 20, 2):  # numbers may have gaps
            t.append_event(n, n, str(n).encode())

    store.write_now(append)
    with store.read() as t:
        assert t.events() == [(15, b"15"), (17, b"17"), (19, b"19")]
    store.close()
