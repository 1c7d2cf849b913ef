import sqlite3

import pytest

from boxship.base.errors import SystemFailure
from boxship.store import schema


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def test_migrations_run_once_and_in_order(connection: sqlite3.Connection) -> None:
    steps = [["CREATE TABLE a (x)"], ["ALTER TABLE a ADD COLUMN y"]]
    schema.migrate(connection, "db", steps[:1])
    schema.migrate(connection, "db", steps)
    schema.migrate(connection, "db", steps)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.execute("INSERT INTO a (x, y) VALUES (1, 2)")


def test_a_failing_migration_is_rolled_back_whole(connection: sqlite3.Connection) -> None:
    schema.migrate(connection, "db", [["CREATE TABLE a (x)"]])
    with pytest.raises(SystemFailure, match="migration to format 2 failed, nothing was changed"):
        schema.migrate(connection, "db", [["CREATE TABLE a (x)"], ["CREATE TABLE b (x)", "CREATE NONSENSE"]])
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
