"""The examples with a registry, typed as they stand there; stand-ins take the place of Docker Hub and of private ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from harness import sessions
from harness.engine import Engine
from harness.images import import_busybox
from harness.platforms import tar_of
from harness.registry_server import RegistryServer
from harness.sessions import Session

pytestmark = pytest.mark.system
SESSIONS = sessions.read([Path(__file__).with_name("examples.session")])
RULES = [{"repositories": ["*"], "users": ["joe"], "actions": ["*"]}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for which localhost:5055 is Docker Hub's mirror, and localhost:5001 wants a password."""
    users = tmp_path_factory.mktemp("users") / "htpasswd"
    users.write_text(f"joe:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    engine = Engine()
    hub = RegistryServer(prefix=engine.namespace.prefix())
    private = RegistryServer(
        {"auth": {"htpasswd": {"realm": "Own", "path": str(users)}}, "access": RULES}, prefix=engine.namespace.prefix()
    )
    hub.port, private.port = 5055, 5001
    try:
        hub.start()
        private.start()
        (engine.root / "daemon.json").write_text(json.dumps({"registry-mirrors": ["http://localhost:5055"]}))
        engine.start()
        make_images(engine)
        yield engine
    finally:
        hub.close()
        private.close()
        engine.close()


def make_images(engine: Engine) -> None:
    """Fill the registries; what stays here is an image to push and that of the registry."""
    import_busybox(engine)
    engine.docker("run", "--name", "step", "busybox", "sh", "-c", "echo a page >/page")
    engine.docker("commit", "-c", 'CMD ["cat", "/page"]', "step", "example/docker-node-hello")
    engine.docker("rm", "step")
    hub = ("library/nginx:1.10.2-alpine", "library/nginx", "library/ubuntu", "joe/base")
    names = [*(f"localhost:5055/{name}" for name in hub), "localhost:5001/apps/internal-app"]
    engine.boxship("login", "-u", "joe", "--password-stdin", "localhost:5001", input="secret\n")
    (engine.root / "older.tar").write_bytes(tar_of(page="an older page\n"))
    engine.docker("import", str(engine.root / "older.tar"), "older")
    for name in names:
        engine.docker("tag", "older" if "1.10.2" in name else "example/docker-node-hello", name)
        engine.docker("push", name)
    windows = json.dumps({"os": "windows", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}})
    push = (
        "import sys; from harness.registry_server import *; c = Client('http://localhost:5055'); "
        "config = {**c.push_blob('windows/nanoserver', sys.argv[1].encode()), 'mediaType': OCI_CONFIG}; "
        "m = {'schemaVersion': 2, 'mediaType': OCI_MANIFEST, 'config': config, 'layers': []}; "
        "c.push_manifest('windows/nanoserver', 'sac2016', m)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).parents[2]}:{engine.client_environment()['PYTHONPATH']}",
    }
    engine.namespace.run(sys.executable, "-c", push, windows, env=environment)
    engine.boxship("logout", "localhost:5001")
    engine.docker("rmi", *names, "busybox", "older")
    engine.boxship("image", "bootstrap", "-q", "registry:2")


@pytest.fixture(scope="module")
def own_cli(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with our command line under the name ``docker``."""
    program = tmp_path_factory.mktemp("bin") / "docker"
    start = "import sys; from boxship.cli.main import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    return str(program.parent)


@pytest.mark.words_of_docker_28
@pytest.mark.parametrize("session", SESSIONS, ids=[f"{session.number}" for session in SESSIONS])
@pytest.mark.parametrize("program", ["docker", "boxship"])
def test_example_with_a_registry(program: str, session: Session, engine: Engine, own_cli: str, tmp_path: Path) -> None:
    environment = engine.client_environment()
    if program == "boxship":
        environment["PATH"] = f"{own_cli}:{os.environ['PATH']}"
    (tmp_path / "password").write_text("secret\n")
    done = subprocess.run(
        [*engine.namespace.prefix(), "sh", "-c", session.script()],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    session.check(done.stdout)
