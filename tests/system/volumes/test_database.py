"""A real PostgreSQL under writes: a snapshot of its volume, more writes, a rollback; the database starts and is consistent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.databases import import_postgres
from harness.engine import Engine
from harness.packages import NoArchive
from harness.waiting import until

pytestmark = pytest.mark.system
ACCOUNTS, EACH = 50, 1000
PREPARE = f"""
create table accounts (id int primary key, balance int not null);
insert into accounts select n, {EACH} from generate_series(1, {ACCOUNTS}) n;
create table ledger (id bigserial primary key, source int, target int, amount int);
"""
# One transaction each: whoever sees half of one sees another sum, or a balance that the ledger does not explain.
TRANSFERS = f"""
do $$ declare a int; b int; n int; begin
loop
    a := 1 + floor(random() * {ACCOUNTS}); b := 1 + floor(random() * {ACCOUNTS}); n := floor(random() * 9);
    update accounts set balance = balance - n where id = a;
    update accounts set balance = balance + n where id = b;
    insert into ledger (source, target, amount) values (a, b, n);
    commit;
end loop; end $$;
"""
UNEXPLAINED = f"""
select count(*) from accounts where balance <> {EACH}
    - (select coalesce(sum(amount), 0) from ledger where source = accounts.id)
    + (select coalesce(sum(amount), 0) from ledger where target = accounts.id);
"""


@pytest.fixture(scope="module")
def database(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine with the image ``postgres``."""
    try:
        import_postgres(engine, tmp_path_factory.mktemp("postgres"))
    except NoArchive as exc:
        pytest.skip(str(exc))
    yield engine
    engine.docker("rm", "-f", "db", check=False)
    engine.docker("volume", "prune", "-af")


def sql(engine: Engine, text: str) -> str:
    return engine.docker("exec", "db", "psql", "-U", "postgres", "-qAt", "-c", text).stdout.strip()


def until_ready(engine: Engine) -> None:
    words = ("exec", "db", "psql", "-U", "postgres", "-qAt", "-c", "select 1")
    until(lambda: engine.docker(*words, check=False).stdout == "1\n", seconds=60)


def rows(engine: Engine) -> int:
    return int(sql(engine, "select count(*) from ledger"))


def write(engine: Engine) -> None:
    """Start writers that go on until the database ends."""
    before = rows(engine)
    for _ in range(2):
        engine.docker("exec", "-d", "db", "psql", "-U", "postgres", "-qAt", "-c", TRANSFERS)
    until(lambda: rows(engine) > before + 200)


def is_consistent(engine: Engine) -> bool:
    return (sql(engine, "select sum(balance) from accounts"), sql(engine, UNEXPLAINED)) == (str(ACCOUNTS * EACH), "0")


def test_a_database_under_writes_goes_back_to_a_snapshot(database: Engine) -> None:
    engine = database
    engine.docker("run", "-d", "--name", "db", "-v", "pg:/var/lib/postgresql/data", "postgres")
    until_ready(engine)
    sql(engine, PREPARE)
    write(engine)
    before = rows(engine)
    engine.boxship("volume", "snapshot", "pg", "live")
    after = rows(engine)
    until(lambda: rows(engine) > after + 200)
    sql(engine, "delete from ledger where id % 2 = 0")
    engine.docker("kill", "db")
    engine.boxship("volume", "restore", "pg", "live")
    engine.docker("start", "db")
    until_ready(engine)
    assert before <= rows(engine) <= after
    assert is_consistent(engine)
    write(engine)
    assert is_consistent(engine)
    engine.docker("rm", "-f", "db")
    engine.docker("volume", "rm", "pg")
