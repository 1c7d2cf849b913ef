"""testcontainers-python as a client: databases out of Debian packages for one test each, waited for, queried, cleaned up."""

from __future__ import annotations

import gc
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import PingWaitStrategy, RedisContainer
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.container import DockerContainer, ExecConfig, Reaper
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)
from testcontainers.core.waiting_utils import WaitStrategy

from harness.dockercli import static_docker_cli
from harness.engine import Engine
from harness.images import busybox_tar
from harness.netns import entered
from harness.packages import NoArchive, packages_tar
from harness.waiting import until

pytestmark = [
    pytest.mark.system,
    pytest.mark.row("API-21"),
    pytest.mark.filterwarnings(
        "ignore:unclosed:ResourceWarning"
    ),  # clients that testcontainers leaves to the collector
]

SLOW_START = "sleep 0.2; echo ready; touch /ready; mkdir -p /www; exec httpd -f -p 8080 -h /www"

# What the image of PostgreSQL does: a cluster for the user and database of its environment, then the server.
POSTGRES_ENTRYPOINT = """#!/bin/sh
set -e
mkdir -p "$PGDATA" /var/run/postgresql
chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql
cat >/tmp/initialise <<END
printf %s "$POSTGRES_PASSWORD" >/tmp/password
initdb -N -U "$POSTGRES_USER" --pwfile=/tmp/password -A scram-sha-256 -E UTF8 --locale=C -D "$PGDATA" >/dev/null
printf 'create database "%s";' "$POSTGRES_DB" | postgres --single -D "$PGDATA" postgres >/dev/null
echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
exec postgres -D "$PGDATA" -c listen_addresses=* -c fsync=off
END
exec su -s /bin/sh -c 'exec sh -e /tmp/initialise' postgres
"""

# Ryuk's side of the protocol: filters come in, ACK goes out, and when the client has gone, all that they select is removed.
RYUK_ENTRYPOINT = """#!/bin/sh
cat >/reap <<'END'
#!/bin/sh
while read -r filter; do
  echo "$filter" | tr -d '\\r' >>/filters
  echo ACK
done
while read -r filter; do
  docker ps -aq --filter "$filter" | xargs -r docker rm -fv >&2
done </filters
kill 1
END
chmod +x /reap
trap 'exit 0' TERM
nc -l -p 8080 -e /reap &
echo "Started!"
wait
"""


@pytest.fixture(autouse=True)
def client_of(engine: Engine) -> Iterator[None]:
    """Let testcontainers find the engine, from a place where its published ports are."""
    with pytest.MonkeyPatch.context() as patch, entered(engine.namespace):
        patch.setenv("DOCKER_HOST", engine.host)
        patch.setattr(testcontainers_config, "sleep_time", 0.05)
        patch.setattr(testcontainers_config, "max_tries", 1000)
        patch.setattr(testcontainers_config, "ryuk_disabled", True)
        patch.setattr(testcontainers_config, "tc_host_override", "localhost")
        patch.setattr(testcontainers_config, "connection_mode_override", ConnectionMode.docker_host)
        yield
        gc.collect()


@pytest.fixture(scope="module")
def databases(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One root filesystem with both servers; what makes an image of it are a few lines of configuration."""
    directory = tmp_path_factory.mktemp("databases")
    try:
        root = packages_tar(
            directory,
            ["redis-server", "postgresql-15"],
            files={"postgres-entrypoint": POSTGRES_ENTRYPOINT},
            passwd="postgres:x:999:999::/var/lib/postgresql:/bin/sh\n",
            group="postgres:x:999:\n",
        )
    except NoArchive as exc:
        pytest.skip(str(exc))
    engine.docker("import", str(root), "databases")
    root.unlink()
    return "databases"


@pytest.fixture(scope="module")
def redis_image(engine: Engine, databases: str) -> str:
    return configured(engine, databases, "redis:7", 'CMD ["redis-server", "--protected-mode", "no"]', "EXPOSE 6379")


@pytest.fixture(scope="module")
def postgres_image(engine: Engine, databases: str) -> str:
    return configured(
        engine,
        databases,
        "postgres:15",
        'ENTRYPOINT ["/postgres-entrypoint"]',
        "ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/usr/sbin PGDATA=/var/lib/postgresql/data",
        "EXPOSE 5432",
        "VOLUME /var/lib/postgresql/data",
    )


def configured(engine: Engine, base: str, name: str, *changes: str) -> str:
    """Make an image with the base's files and a configuration of its own."""
    engine.docker("create", "--name", "base", base, "true")
    words = [word for change in changes for word in ("--change", change)]
    engine.docker("commit", *words, "base", name)
    engine.docker("rm", "base")
    return name


def web() -> DockerContainer:
    """A small web server that says when it is ready."""
    return DockerContainer("busybox").with_command(["sh", "-c", SLOW_START]).with_exposed_ports(8080)


def test_redis_keeps_what_a_client_tells_it(redis_image: str, engine: Engine) -> None:
    with RedisContainer(redis_image).waiting_for(LogMessageWaitStrategy("Ready to accept")) as container:
        PingWaitStrategy().wait_until_ready(container)
        client = container.get_client(decode_responses=True)
        assert client.set("greeting", "hello")
        assert client.get("greeting") == "hello"
        assert [client.incr("hits") for _ in range(3)] == [1, 2, 3]
        subscriber = client.pubsub()
        subscriber.subscribe("news")
        client.publish("news", "now")
        messages = (subscriber.get_message(timeout=20) for _ in range(2))
        assert [message["data"] for message in messages if message] == [1, "now"]
        subscriber.close()
        client.close()
        assert b"Ready to accept connections" in container.get_logs()[0]
    assert engine.docker("ps", "-aq").stdout == ""


def test_redis_with_a_password_refuses_others(redis_image: str) -> None:
    with RedisContainer(redis_image, password="secret").waiting_for(LogMessageWaitStrategy("Ready to")) as container:
        assert container.get_client().ping()
        address = container.get_container_host_ip(), container.get_exposed_port(6379)
        stranger = redis.Redis(*address, retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.AuthenticationError):
            stranger.get("x")
        stranger.close()


def test_postgresql_answers_queries(postgres_image: str, engine: Engine) -> None:
    with PostgresContainer(postgres_image, driver=None) as container:
        with psycopg.connect(container.get_connection_url()) as connection:
            connection.execute("create table things (id serial primary key, name text unique)")
            with connection.cursor() as cursor:
                cursor.executemany("insert into things (name) values (%s)", [(name,) for name in ("a", "b", "c")])
            assert connection.execute("select id, name from things order by id").fetchall() == [
                (1, "a"),
                (2, "b"),
                (3, "c"),
            ]
            (version,) = connection.execute("select version()").fetchone()  # type: ignore[misc]
            assert version.startswith("PostgreSQL 15.")
            connection.commit()
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute("insert into things (name) values ('a')")
        counted = container.exec(
            ExecConfig(
                ["psql", "-h", "127.0.0.1", "-U", "test", "-Atc", "select count(*) from things"],
                environment={"PGPASSWORD": "test"},
                user="postgres",
            )
        )
        assert (counted.exit_code, counted.output) == (0, b"3\n")
    assert engine.docker("volume", "ls", "-q").stdout == ""


@pytest.mark.parametrize(
    "strategy",
    [
        LogMessageWaitStrategy("ready"),
        PortWaitStrategy(8080),
        HttpWaitStrategy(8080, "/page").for_status_code(200),
        ExecWaitStrategy(["test", "-e", "/ready"]),
        HealthcheckWaitStrategy(),
        ContainerStatusWaitStrategy(),
        CompositeWaitStrategy(LogMessageWaitStrategy("ready"), PortWaitStrategy(8080)),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_a_container_is_waited_for(strategy: WaitStrategy) -> None:
    container = (
        web()
        .with_copy_into_container(b"hello", "/www/page")
        .with_kwargs(healthcheck={"test": ["CMD", "test", "-e", "/ready"], "interval": 50_000_000, "retries": 1000})
    )
    with container.waiting_for(strategy.with_poll_interval(0.05)):
        assert container.status in ("running", "created")
        assert container.get_exposed_port(8080) > 0


def test_a_file_in_a_volume_is_waited_for(tmp_path: Path) -> None:
    container = (
        DockerContainer("busybox")
        .with_command(["sh", "-c", "echo done > /shared/result; sleep 1000"])
        .with_volume_mapping(tmp_path, "/shared", "rw")
        .waiting_for(FileExistsWaitStrategy(tmp_path / "result"))
    )
    with container:
        until(lambda: (tmp_path / "result").read_text() == "done\n")


def test_a_container_that_never_gets_ready_is_removed(engine: Engine) -> None:
    container = web().waiting_for(LogMessageWaitStrategy("never").with_startup_timeout(1))
    with pytest.raises(TimeoutError), container:
        pytest.fail("it got ready")
    assert engine.docker("ps", "-aq").stdout == ""


def test_all_that_a_container_can_be_given(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "variables").write_text("FROM_FILE=yes\n")
    (tmp_path / "read").write_text("mounted")
    container = (
        DockerContainer("busybox")
        .with_name("given")
        .with_command(["sleep", "1000"])
        .with_env("A", "1")
        .with_envs(B="2", C="3")
        .with_env_file(tmp_path / "variables")
        .with_bind_ports(80, 18080)
        .with_bind_ports("53/udp", 1053)
        .with_volume_mapping(tmp_path, "/data")
        .with_tmpfs_mount("/scratch", "size=1m")
        .with_copy_into_container(b"copied", "/etc/copied", 0o600)
        .with_kwargs(hostname="givenhost", working_dir="/data", user="app", labels={"mine": "yes"})
    )
    with container:
        assert container.exec("sh -c 'echo $A$B$C$FROM_FILE; hostname; pwd; id -u'").output == (
            b"123yes\ngivenhost\n/data\n1000\n"
        )
        assert container.exec(["cat", "read"]).output == b"mounted"
        assert container.exec(["touch", "/data/x"]).exit_code == 1
        assert b"size=1024k" in container.exec(["grep", "/scratch", "/proc/mounts"]).output
        assert container.exec(ExecConfig(["stat", "-c", "%a", "/etc/copied"], user="root")).output == b"600\n"
        assert container.get_exposed_port(80) == 18080
        wrapped = container.get_wrapped_container()
        assert wrapped.name == "given"
        assert wrapped.labels["org.testcontainers.lang"] == "python"
        assert wrapped.labels["mine"] == "yes"
        container.copy_into_container(tmp_path / "read", "/tmp/back")
        container.copy_from_container("/tmp/back", tmp_path / "returned")
        assert (tmp_path / "returned").read_text() == "mounted"
        info = container.get_container_info()
        assert info is not None
        assert info.State is not None
        assert info.State.Running


def test_a_program_that_ends_is_waited_for_and_its_output_kept_apart() -> None:
    with DockerContainer("busybox").with_command(["sh", "-c", "echo out; echo err >&2; exit 3"]) as container:
        assert container.wait() == 3
        assert container.get_logs() == (b"out\n", b"err\n")


@pytest.mark.row("RUN-48")
def test_a_reaper_that_uses_the_engines_socket_removes_what_its_client_left(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = static_docker_cli()
    (tmp_path / "ryuk.tar").write_bytes(busybox_tar())
    with tarfile.open(tmp_path / "ryuk.tar", "a") as tar:
        tar.add(program, "bin/docker")
    engine.docker("import", "--change", "EXPOSE 8080", str(tmp_path / "ryuk.tar"), "ryuk:stand-in")
    script = tmp_path / "entrypoint"
    script.write_text(RYUK_ENTRYPOINT)
    script.chmod(0o755)
    engine.docker("create", "--name", "made", "ryuk:stand-in", "true")
    engine.docker("cp", str(script), "made:/entrypoint")
    engine.docker("commit", "-c", 'ENTRYPOINT ["/entrypoint"]', "made", "ryuk:stand-in")
    engine.docker("rm", "made")
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", False)
    monkeypatch.setattr(testcontainers_config, "ryuk_image", "ryuk:stand-in")

    forgotten = DockerContainer("busybox").with_command(["sleep", "1000"]).start()
    engine.docker("create", "--name", "another", "busybox")
    assert forgotten.status in ("created", "running")
    assert Reaper._socket is not None
    assert Reaper._socket.recv(4) == b"ACK\n"
    Reaper._socket.close()  # what happens when the testing program dies
    until(lambda: engine.docker("ps", "-a", "--format", "{{.Names}}").stdout == "another\n")
    Reaper._socket = Reaper._container = Reaper._instance = None
    forgotten.get_docker_client().client.close()
