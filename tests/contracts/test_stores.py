"""What every store does, whatever it keeps its tables in; a new one passes by subclassing."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.base.errors import Conflict, NotFound
from boxship.store import Change, CompareFailed, NameTaken, Owner, Store, Transaction


class StoreContract:
    """Behaviour of the words in the docstring of ``boxship.store``."""

    def test_put_documents_are_read_back(self, store: Store) -> None:
        store.write_now(lambda t: t.put("container", "b", b"two"))
        store.write_now(lambda t: t.put("container", "a", b"one"))
        with store.read() as t:
            assert t.get("container", "a") == b"one"
            assert t.get("container", "c") is None
            assert t.get("image", "a") is None
            assert t.list("container") == [("a", b"one"), ("b", b"two")]

    def test_each_change_set_takes_one_revision(self, store: Store) -> None:
        def change(t: Transaction) -> int:
            t.put("k", "a", b"")
            t.put("k", "b", b"")
            return t.revision

        assert store.write_now(change) == 1
        with store.read() as t:
            assert t.revision == 1
            assert t.revision_of("k", "a") == t.revision_of("k", "b") == 1

    def test_a_change_set_that_writes_nothing_takes_no_revision(self, store: Store) -> None:
        store.write_now(lambda t: t.get("k", "a"))
        with store.read() as t:
            assert t.revision == 0

    def test_a_failed_change_leaves_nothing_and_raises(self, store: Store) -> None:
        def change(t: Transaction) -> None:
            t.put("k", "a", b"")
            t.claim("k", "name", "a")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.write_now(change)
        with store.read() as t:
            assert t.revision == 0
            assert t.list("k") == []
            assert t.names("k") == {}

    def test_a_failed_change_does_not_undo_others_of_its_group(self, store: Store) -> None:
        def fail(t: Transaction) -> None:
            t.put("k", "bad", b"")
            raise ZeroDivisionError

        async def run() -> list[object]:
            changes = [
                store.write(fail if n % 3 == 0 else (lambda t, n=n: t.put("k", f"{n:02}", b""))) for n in range(30)
            ]
            return await asyncio.gather(*changes, return_exceptions=True)

        results = asyncio.run(run())
        assert [type(r) for r in results] == [ZeroDivisionError if n % 3 == 0 else type(None) for n in range(30)]
        with store.read() as t:
            assert [id for id, _ in t.list("k")] == [f"{n:02}" for n in range(30) if n % 3]
            assert t.revision == 20

    def test_compare_and_swap_refuses_a_stale_revision(self, store: Store) -> None:
        store.write_now(lambda t: t.put("k", "a", b"1", expected=0))
        store.write_now(lambda t: t.put("k", "a", b"2", expected=1))
        for stale in (0, 1):
            with pytest.raises(CompareFailed):
                store.write_now(lambda t, stale=stale: t.put("k", "a", b"3", expected=stale))
        with store.read() as t:
            assert t.get("k", "a") == b"2"

    def test_a_name_is_held_by_one_id(self, store: Store) -> None:
        store.write_now(lambda t: t.claim("container", "web", "a"))
        store.write_now(lambda t: t.claim("container", "web", "a"))
        store.write_now(lambda t: t.claim("network", "web", "b"))
        with pytest.raises(NameTaken) as caught:
            store.write_now(lambda t: t.claim("container", "web", "b"))
        assert caught.value.holder_id == "a"
        with store.read() as t:
            assert t.lookup("container", "web") == "a"
            assert t.names_of("container", "a") == ["web"]

    def test_one_of_many_claims_of_a_name_wins(self, store: Store) -> None:
        async def run() -> list[object]:
            claims = [store.write(lambda t, n=n: t.claim("container", "web", str(n))) for n in range(20)]
            return await asyncio.gather(*claims, return_exceptions=True)

        assert sum(result is None for result in asyncio.run(run())) == 1

    def test_a_released_name_can_be_claimed_again(self, store: Store) -> None:
        store.write_now(lambda t: t.claim("container", "web", "a"))
        assert store.write_now(lambda t: t.release("container", "web")) is True
        assert store.write_now(lambda t: t.release("container", "web")) is False
        store.write_now(lambda t: t.claim("container", "web", "b"))

    def test_move_renames_or_refuses(self, store: Store) -> None:
        store.write_now(lambda t: t.claim("container", "old", "a"))
        store.write_now(lambda t: t.claim("container", "taken", "b"))
        with pytest.raises(NameTaken):
            store.write_now(lambda t: t.move("container", "old", "taken"))
        with pytest.raises(NotFound):
            store.write_now(lambda t: t.move("container", "nobody", "new"))
        store.write_now(lambda t: t.move("container", "old", "new"))
        store.write_now(lambda t: t.move("container", "new", "new"))
        with store.read() as t:
            assert t.names("container") == {"new": "a", "taken": "b"}

    def test_owner_rows_explain_directories(self, store: Store) -> None:
        store.write_now(lambda t: t.own("/d/1", "snapshot", "x"))
        with store.read() as t:
            assert t.owner("/d/1") == Owner("/d/1", "snapshot", "x")
            assert t.owner("/d/2") is None
            assert t.owners() == [Owner("/d/1", "snapshot", "x")]
        store.write_now(lambda t: t.disown("/d/1"))
        with store.read() as t:
            assert t.owners() == []

    def test_a_reader_keeps_its_snapshot_while_others_write(self, store: Store) -> None:
        store.write_now(lambda t: t.put("k", "a", b"1"))
        with store.read() as t:
            store.write_now(lambda t: t.put("k", "a", b"2"))
            assert t.get("k", "a") == b"1"
            assert t.revision == 1
        with store.read() as t:
            assert t.get("k", "a") == b"2"

    def test_readers_in_other_threads_do_not_wait_for_a_writer(self, store: Store) -> None:
        in_change, may_end = threading.Event(), threading.Event()

        def slow(t: Transaction) -> None:
            t.put("k", "a", b"")
            in_change.set()
            may_end.wait(30)

        writer = threading.Thread(target=store.write_now, args=(slow,))
        writer.start()
        assert in_change.wait(30)
        with store.read() as t:
            assert t.get("k", "a") is None
        may_end.set()
        writer.join()

    def test_events_are_selected_by_number_and_time_oldest_first(self, store: Store) -> None:
        with store.read() as t:
            assert t.last_event() == 0
        for n in range(1, 6):
            store.write_now(lambda t, n=n: t.append_event(n, n * 10, str(n).encode()), durable=False)
        with store.read() as t:
            assert t.events() == [(1, b"1"), (2, b"2"), (3, b"3"), (4, b"4"), (5, b"5")]
            assert t.events(since_ns=20, until_ns=40) == [(2, b"2"), (3, b"3"), (4, b"4")]
            assert t.events(after=2, limit=2) == [(3, b"3"), (4, b"4")]

    def test_events_of_before_a_moment_are_forgotten_and_their_numbers_never_return(self, store: Store) -> None:
        for n in range(1, 4):
            store.write_now(lambda t, n=n: t.append_event(n, n * 10, str(n).encode()), durable=False)
        store.write_now(lambda t: t.forget_events(25))
        with store.read() as t:
            assert t.events() == [(3, b"3")]
        store.write_now(lambda t: t.forget_events(100))
        with store.read() as t:
            assert (t.events(), t.last_event()) == ([], 3)

    def test_a_lease_protects_until_it_ends(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.write_now(lambda t: t.protect("pull", "sha256:a"))
        store.write_now(lambda t: t.lease("pull", 100))
        store.write_now(lambda t: t.protect("pull", "sha256:a"))
        with store.read() as t:
            assert t.leased(99) == {"sha256:a"}
            assert t.leased(100) == set()
        store.write_now(lambda t: t.lease("pull", 200))
        store.write_now(lambda t: t.end_expired_leases(150))
        with store.read() as t:
            assert t.leased(150) == {"sha256:a"}
        store.write_now(lambda t: t.end_lease("pull"))
        with store.read() as t:
            assert t.leased(0) == set()

    def test_changes_lists_each_object_once_at_its_newest(self, store: Store) -> None:
        store.write_now(lambda t: t.put("k", "a", b"1"))
        store.write_now(lambda t: t.put("k", "b", b"1"))
        store.write_now(lambda t: t.put("k", "a", b"2"))
        store.write_now(lambda t: t.delete("k", "b"))
        with store.read() as t:
            assert t.changes(0) == [Change(3, "k", "a", False), Change(4, "k", "b", True)]
            assert t.changes(3) == [Change(4, "k", "b", True)]
        store.write_now(lambda t: t.put("k", "b", b"again"))
        with store.read() as t:
            assert t.changes(3) == [Change(5, "k", "b", False)]

    def test_watch_goes_on_as_changes_are_committed_and_ends_with_the_store(self, store: Store) -> None:
        async def run() -> list[Change]:
            seen = []
            await store.write(lambda t: t.put("k", "0", b""))
            async for change in store.watch(0):
                seen.append(change)
                if len(seen) < 4:
                    await store.write(lambda t: t.put("k", str(len(seen)), b""))
                else:
                    asyncio.get_running_loop().run_in_executor(None, store.close)
            return seen

        assert [change.id for change in asyncio.run(run())] == ["0", "1", "2", "3"]

    def test_a_cancelled_write_runs_whole_or_not(self, store: Store) -> None:
        async def run() -> None:
            task = asyncio.create_task(store.write(lambda t: (t.put("k", "a", b""), t.claim("k", "n", "a"))))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await store.write(lambda t: None)

        asyncio.run(run())
        with store.read() as t:
            assert (t.get("k", "a") is None) == (t.lookup("k", "n") is None)

    def test_a_change_cannot_wait_for_another_change(self, store: Store) -> None:
        with pytest.raises(RuntimeError):
            store.write_now(lambda t: store.write_now(lambda t: None))

    def test_watch_from_forgotten_deletions_is_refused(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("boxship.store.transaction.DELETIONS_KEPT", 3)
        for n in range(6):
            store.write_now(lambda t, n=n: (t.put("k", str(n), b""), t.delete("k", str(n))), durable=False)
        with store.read() as t:
            with pytest.raises(Conflict):
                t.changes(1)
            assert [change.id for change in t.changes(3)] == ["3", "4", "5"]


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = Store(str(tmp_path / "boxship.db"))
        yield store
        store.close()
