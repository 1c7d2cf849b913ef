"""An image with PostgreSQL out of the distribution's packages, which writes as safely as it does by default."""

from __future__ import annotations

from pathlib import Path

from harness.engine import Engine
from harness.packages import packages_tar

ENTRYPOINT = """#!/bin/sh
set -e
mkdir -p "$PGDATA" /var/run/postgresql
chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql
cat >/tmp/start <<END
set -e
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    initdb -N -U postgres -A trust -E UTF8 --locale=C --data-checksums -D "$PGDATA" >/dev/null
fi
exec postgres -D "$PGDATA" -c checkpoint_timeout=30s -c jit=off
END
exec su -s /bin/sh -c 'exec sh -e /tmp/start' postgres
"""


def import_postgres(engine: Engine, directory: Path, name: str = "postgres") -> None:
    """Give the engine an image that keeps a database in /var/lib/postgresql/data. Raises NoArchive."""
    root = packages_tar(
        directory,
        ["postgresql-15"],
        files={"postgres-entrypoint": ENTRYPOINT},
        passwd="postgres:x:999:999::/var/lib/postgresql:/bin/sh\n",
        group="postgres:x:999:\n",
    )
    changes = (
        'ENTRYPOINT ["/postgres-entrypoint"]',
        "ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/usr/sbin:/bin PGDATA=/var/lib/postgresql/data",
    )
    engine.docker("import", *(word for change in changes for word in ("--change", change)), str(root), name)
    root.unlink()
