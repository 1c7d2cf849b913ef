"""nginx, Redis and PostgreSQL out of Debian packages, on two networks of which only nginx is in both."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest

from harness.engine import Engine
from harness.netns import entered
from harness.packages import NoArchive, packages_tar
from harness.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

NGINX = """
worker_processes 1;
error_log stderr;
events { worker_connections 64; }
http {
  access_log off;
  server {
    listen 80;
    listen [::]:80;
    location / { proxy_pass http://pages:8080; }
  }
}
"""
START_NGINX = """#!/bin/sh
mkdir -p /var/log/nginx /var/lib/nginx /run
exec nginx -e stderr -c /pages.conf -g 'daemon off; user root;'
"""
START_POSTGRESQL = """#!/bin/sh -e
mkdir -p /data /var/run/postgresql
chown postgres:postgres /data /var/run/postgresql
cat >/start <<'END'
initdb -N -U app --auth-local=trust --auth-host=trust -E UTF8 --locale=C -D /data/db >/dev/null
echo 'host all all all trust' >>/data/db/pg_hba.conf
exec postgres -D /data/db -c 'listen_addresses=*' -c fsync=off
END
exec su -s /bin/sh -c 'exec sh -e /start' postgres
"""
PATH = "PATH=/usr/lib/postgresql/15/bin:/usr/bin:/usr/sbin:/bin:/sbin"


@pytest.fixture
def programs(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with the three servers and their clients, and two networks."""
    try:
        root = packages_tar(
            tmp_path_factory.mktemp("programs"),
            ["nginx-light", "redis-server", "redis-tools", "postgresql-15", "postgresql-client-15"],
            files={"pages.conf": NGINX, "start-nginx": START_NGINX, "start-postgresql": START_POSTGRESQL},
            passwd="postgres:x:999:999::/data:/bin/sh\n",
            group="postgres:x:999:\n",
        )
    except NoArchive as exc:
        pytest.skip(str(exc))
    engine.docker("import", "-c", f"ENV {PATH}", str(root), "programs")
    root.unlink()
    for network in ("front", "back"):
        engine.docker("network", "create", network)
    yield "programs"
    engine.docker("rm", "-f", *engine.docker("ps", "-aq").stdout.split())
    engine.docker("network", "rm", "front", "back")


@pytest.mark.row("NET-05", "NET-07", "NET-10", "NET-18")
def test_servers_find_each_other_by_name_and_strangers_do_not(engine: Engine, programs: str) -> None:
    def run(name: str, network: str, *words: str, options: str = "") -> None:
        engine.docker("run", "-d", "--name", name, "--network", network, *options.split(), programs, *words)

    def says(where: str, *words: str) -> str:
        return engine.docker("exec", where, *words, check=False).stdout.strip()

    page = "mkdir -p /www; echo made in the back >/www/index.html; exec httpd -f -p 8080 -h /www"
    run("pages", "back", "sh", "-c", page)
    run("cache", "back", "redis-server", "--protected-mode", "no", "--save", "")
    run("db", "back", "/start-postgresql", options="--network-alias data")
    run("client", "back", "sleep", "600")
    run("visitor", "front", "sleep", "600")
    engine.docker("create", "--name", "web", "--network", "front", "-p", "8080:80", programs, "/start-nginx")
    engine.docker("network", "connect", "back", "web")
    engine.docker("start", "web")

    until(lambda: says("client", "redis-cli", "-h", "cache", "ping") == "PONG", 60)
    assert says("client", "redis-cli", "-h", "cache.back", "set", "greeting", "hello") == "OK"
    until(lambda: says("client", "psql", "-h", "data", "-U", "app", "postgres", "-Atc", "select 6 * 7") == "42", 90)
    assert says("client", "psql", "-h", "db", "-U", "app", "postgres", "-Atc", "select inet_client_addr()").startswith(
        "172."
    )
    until(lambda: says("visitor", "wget", "-qO-", "http://web/") == "made in the back", 60)
    with entered(engine.namespace), urllib.request.urlopen("http://127.0.0.1:8080/", timeout=30) as page_seen:
        assert page_seen.read() == b"made in the back\n"
    assert "hello" not in says("visitor", "redis-cli", "-h", "cache", "get", "greeting")
    address = engine.docker("inspect", "-f", "{{.NetworkSettings.Networks.back.IPAddress}}", "cache").stdout.strip()
    assert says("visitor", "sh", "-c", f"nc -w 1 {address} 6379 </dev/null && echo open") == ""
