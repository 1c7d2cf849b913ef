"""Rows about images: their kinds, names, layers, and where they come from."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dockercli import docker_cli_release
from harness.engine import Engine
from harness.images import busybox, import_busybox, import_program
from harness.platforms import tar_of
from harness.registry_server import RegistryServer
from harness.waiting import until

pytestmark = pytest.mark.system
ADDRESS = "192.168.56.100"
NAMED = (  # registries that people name, and what is asked of the stand-in for each
    "quay.io/org/app:1",
    "gcr.io/project/app:1",
    "europe-docker.pkg.dev/project/repository/app:1",
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1",
    "company.azurecr.io/team/app:1",
    "ghcr.io/owner/app:1",
    "dtr.example.com:8443/org/app:1",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if docker_cli_release() < 28:
        pytest.skip("the docker CLI here is older than 28 and has other words")
    engine = Engine()
    try:
        engine.namespace.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def registry(engine: Engine) -> Iterator[RegistryServer]:
    """Our own registry on port 5000 of all addresses."""
    server = RegistryServer(
        prefix=engine.namespace.prefix(), environment={"REGISTRY_HTTP_ADDR": "0.0.0.0:5000"}
    ).start()
    yield server
    server.close()


def reload(engine: Engine, **settings: object) -> None:
    """Give the daemon these settings and wait until it has them."""
    (engine.root / "daemon.json").write_text(json.dumps(settings))
    assert engine.process is not None
    before = engine.log_text().count("Reloaded configuration")
    engine.process.send_signal(signal.SIGHUP)
    until(lambda: engine.log_text().count("Reloaded configuration") > before)


@pytest.fixture
def mirrored(engine: Engine, registry: RegistryServer) -> Iterator[None]:
    """Send what would go to Docker Hub to the registry here."""
    reload(engine, **{"registry-mirrors": ["http://localhost:5000"]})
    yield
    reload(engine)


def forget(engine: Engine, *names: str) -> None:
    engine.docker("rmi", "--force", *names)


# IMG-17, IMG-23: kinds


@pytest.mark.row("IMG-17")
def test_base_child_official_and_user_images_run(engine: Engine, registry: RegistryServer, mirrored: None) -> None:
    engine.docker("tag", "busybox", "localhost:5000/library/system:1")  # a base image, and official by its place
    engine.docker("run", "--name", "child", "busybox", "sh", "-c", "echo own >/own")
    engine.docker("commit", "child", "localhost:5000/joe/tool:1")
    engine.docker("rm", "child")
    for name in ("library/system:1", "joe/tool:1"):
        engine.docker("push", f"localhost:5000/{name}")
        forget(engine, f"localhost:5000/{name}")
    assert engine.docker("run", "--rm", "system:1", "echo", "official").stdout == "official\n"
    assert engine.docker("run", "--rm", "joe/tool:1", "cat", "/own").stdout == "own\n"
    layers = {
        name: engine.docker("inspect", name, "--format", "{{json .RootFS.Layers}}").stdout
        for name in ("system:1", "joe/tool:1")
    }
    assert json.loads(layers["joe/tool:1"])[:1] == json.loads(layers["system:1"])
    forget(engine, "system:1", "joe/tool:1")


@pytest.mark.row("IMG-17")
def test_programs_of_glibc_and_of_musl_run(engine: Engine, tmp_path: Path) -> None:
    import_program(engine, "ls", "glibc")
    assert "ls (GNU coreutils)" in engine.docker("run", "--rm", "glibc", "/bin/ls", "--version").stdout
    compiler, loader = shutil.which("musl-gcc"), Path("/lib/ld-musl-x86_64.so.1")
    if compiler is None or not loader.exists():
        pytest.skip("musl-tools is not installed")
    (tmp_path / "hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hello from musl"); return 7; }\n')
    for name, flags in (("dynamic", ()), ("static", ("-static",))):
        subprocess.run([compiler, *flags, "-o", tmp_path / name, tmp_path / "hello.c"], check=True)
        files = {"hello": (tmp_path / name).read_bytes()}
        if name == "dynamic":
            files["lib/ld-musl-x86_64.so.1"] = loader.read_bytes()
        (tmp_path / "root.tar").write_bytes(tar_of(**files))
        engine.docker("import", str(tmp_path / "root.tar"), f"musl:{name}")
        found = engine.docker("run", "--rm", f"musl:{name}", "/hello", check=False)
        assert (found.returncode, found.stdout) == (7, "hello from musl\n")


@pytest.mark.row("IMG-23")
def test_an_image_of_one_static_program_has_no_shell_and_nothing_else(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(tar_of(busybox=busybox().read_bytes()))
    engine.docker("import", "-c", 'ENTRYPOINT ["/busybox"]', str(tmp_path / "root.tar"), "tiny")
    assert engine.docker("run", "--rm", "tiny", "echo", "alone").stdout == "alone\n"
    size = int(engine.docker("inspect", "tiny", "--format", "{{.Size}}").stdout)
    assert size == busybox().stat().st_size
    engine.docker("run", "-d", "--init=false", "--name", "tiny", "tiny", "sleep", "1000")
    for cli in (engine.docker, engine.boxship):
        refused = cli("exec", "tiny", "sh", check=False)
        assert refused.returncode == 127
        assert 'exec: "sh": executable file not found in $PATH' in refused.stdout + refused.stderr
    engine.docker("export", "-o", str(tmp_path / "export.tar"), "tiny")
    with tarfile.open(tmp_path / "export.tar") as tar:
        names = {member.name.rstrip("/") for member in tar}
    injected = {".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "proc", "sys"}
    injected |= {"etc", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}
    assert "busybox" in names
    assert names - injected == {"busybox"}
    engine.docker("rm", "--force", "tiny")


# IMG-18, REG-08: names

ODD = (
    "Ubuntu",
    "user/Repo",
    "host:5000/UPPER",
    "a//b",
    "-a",
    "a/",
    "a:",
    "a:-x",
    "a b",
    "a" * 256,
    "a:" + "t" * 129,
    "a@sha256:123",
    "a@md5:" + "0" * 32,
    "a@sha256:" + "0" * 63,
    "a@sha256:" + "A" * 64,
    "a__b___c",
    "a..b",
    "0" * 64,
    "host:port/a",
)
GOOD = {
    "ubuntu": "ubuntu:latest",
    "library/ubuntu:1": "ubuntu:1",
    "docker.io/ubuntu:2": "ubuntu:2",
    "index.docker.io/joe/app:3": "joe/app:3",
    "docker.io/library/ubuntu:4": "ubuntu:4",
    "localhost/app": "localhost/app:latest",
    "localhost:5000/app:5": "localhost:5000/app:5",
    "registry.example.com/a/b/c.d_e__f-g:v1.0_x-y": "registry.example.com/a/b/c.d_e__f-g:v1.0_x-y",
    "[2001:db8::1]:5000/app:6": "[2001:db8::1]:5000/app:6",
    "UPPER/app:7": "UPPER/app:7",
    "a-----b:8": "a-----b:8",
    "t:" + "t" * 128: "t:" + "t" * 128,
}


@pytest.mark.row("IMG-18")
@pytest.mark.parametrize("text", ODD)
def test_a_name_that_is_none_is_refused_in_docker_s_words(engine: Engine, text: str) -> None:
    for words in (("tag", "busybox", text), ("pull", text), ("push", text)):
        if text.startswith("-"):
            words = (words[0], "--", *words[1:])
        theirs, ours = engine.docker(*words, check=False), engine.boxship(*words, check=False)
        assert (ours.returncode, _first(ours)) == (theirs.returncode, _first(theirs)), words
        assert theirs.returncode == 1
    assert engine.docker("tag", "busybox", "Ubuntu", check=False).stderr.endswith(
        "invalid reference format: repository name (library/Ubuntu) must be lowercase\n"
    )


@pytest.mark.row("IMG-18")
def test_a_build_refuses_a_base_with_a_name_in_capitals(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM Ubuntu\n")
    for cli in (engine.docker, engine.boxship):
        refused = cli("build", str(tmp_path), check=False)
        assert refused.returncode == 1
        assert "invalid reference format: repository name (library/Ubuntu) must be lowercase" in refused.stderr


def _first(result: subprocess.CompletedProcess[str]) -> str:
    return result.stderr.partition("\n")[0]


@pytest.mark.row("IMG-18")
@pytest.mark.row("REG-08")
def test_a_name_is_shown_as_short_as_it_can_be(engine: Engine) -> None:
    for text in GOOD:
        engine.docker("tag", "busybox", text)
    tags = set(json.loads(engine.docker("inspect", "busybox", "--format", "{{json .RepoTags}}").stdout))
    assert tags == {*GOOD.values(), "busybox:latest"}
    for cli in (engine.docker, engine.boxship):
        assert cli("images", "--format", "{{.Repository}}:{{.Tag}}", "joe/app").stdout == "joe/app:3\n"
    forget(engine, *GOOD)


@pytest.mark.row("REG-08")
def test_a_short_name_is_library_on_the_hub_and_an_account_is_its_prefix(
    engine: Engine, registry: RegistryServer, mirrored: None
) -> None:
    for name in ("library/nginx", "joe/nginx"):
        engine.docker("tag", "busybox", f"localhost:5000/{name}")
        pushed = engine.docker("push", f"localhost:5000/{name}").stdout.splitlines()
        assert pushed[:2] == ["Using default tag: latest", f"The push refers to repository [localhost:5000/{name}]"]
        forget(engine, f"localhost:5000/{name}")
    for cli in (engine.docker, engine.boxship):
        lines = cli("pull", "nginx").stdout.splitlines()
        assert lines[:2] == ["Using default tag: latest", "latest: Pulling from library/nginx"]
        assert lines[-1] == "docker.io/library/nginx:latest"
        assert cli("pull", "joe/nginx:latest").stdout.splitlines()[0] == "latest: Pulling from joe/nginx"
        forget(engine, "nginx", "joe/nginx")
    missing = engine.docker("pull", "nginx/nginx", check=False)
    assert missing.returncode == 1


@pytest.mark.row("REG-10")
def test_official_images_are_told_from_those_of_the_community(
    engine: Engine, registry: RegistryServer, mirrored: None
) -> None:
    for name in ("library/webserver", "joe/webserver"):
        engine.docker("tag", "busybox", f"localhost:5000/{name}")
        engine.docker("push", f"localhost:5000/{name}")
        forget(engine, f"localhost:5000/{name}")
    shown = ("--format", "{{.Name}}|{{.IsOfficial}}")
    for cli in (engine.docker, engine.boxship):
        rows = cli("search", "webserver", *shown).stdout.split()
        assert sorted(rows) == ["joe/webserver|", "library/webserver|[OK]"]
        assert cli("search", "--filter", "is-official=true", "webserver", *shown).stdout == "library/webserver|[OK]\n"
        assert cli("search", "--filter", "is-official=false", "webserver", *shown).stdout == "joe/webserver|\n"


# REG-07, REG-11: places


@pytest.mark.row("REG-07")
def test_a_registry_by_address_needs_tls_or_to_be_listed_as_insecure(engine: Engine, registry: RegistryServer) -> None:
    names = ("localhost:5000/by/address:1", f"{ADDRESS}:5000/by/address:1")
    for name in names:
        engine.docker("tag", "busybox", name)
    engine.docker("push", names[0])  # loopback needs nothing
    for cli in (engine.docker, engine.boxship):
        for action in ("push", "pull"):
            refused = cli(action, names[1], check=False)
            assert refused.returncode == 1
            assert refused.stderr.strip().endswith("http: server gave HTTP response to HTTPS client")
    reload(engine, **{"insecure-registries": [f"{ADDRESS}:5000"]})
    digests = {}
    for name in names:
        line = engine.docker("push", name).stdout.splitlines()[-1]
        digests[name] = line.split()[2]
        forget(engine, name)
        assert f"Digest: {digests[name]}" in engine.docker("pull", name).stdout
    assert len(set(digests.values())) == 1
    forget(engine, *names)
    reload(engine)


@pytest.mark.row("REG-11")
def test_registries_that_people_name_are_reached_by_the_one_protocol(engine: Engine, registry: RegistryServer) -> None:
    engine.docker("tag", "busybox", "localhost:5000/origin/app:1")
    pushed = engine.docker("push", "localhost:5000/origin/app:1").stdout.splitlines()[-1]
    forget(engine, "localhost:5000/origin/app:1")
    rules = [
        {
            "prefix": name.rpartition(":")[0],
            "mirrors": [{"url": "http://localhost:5000", "rewrite": "origin/app"}],
            "fallback": False,
        }
        for name in NAMED
    ]
    reload(engine, **{"registry-mirror-rules": rules})
    for name in NAMED:
        pulled = engine.docker("pull", name).stdout.splitlines()
        assert pulled[-3:] == [f"Digest: {pushed.split()[2]}", f"Status: Downloaded newer image for {name}", name]
        assert engine.docker("run", "--rm", name, "echo", "runs").stdout == "runs\n"
        forget(engine, name)
    reload(engine)


# IMG-22: one tree out of many


@pytest.mark.row("IMG-22")
def test_layers_are_seen_as_one_tree_and_an_update_moves_only_what_changed(
    engine: Engine, registry: RegistryServer, tmp_path: Path
) -> None:
    base, name = "localhost:5000/union/base", "localhost:5000/union/app"
    steps = {
        base: "mkdir -p /d/deep; echo below >/d/one; echo below >/d/two; echo below >/d/deep/three",
        name: "echo above >/d/two; rm /d/deep/three; echo above >/d/deep/four",
    }
    below = "busybox"
    for target, script in steps.items():
        engine.docker("run", "--name", "step", below, "sh", "-c", script)
        engine.docker("commit", "step", target)
        engine.docker("rm", "step")
        below = target
    seen = engine.docker("run", "--rm", name, "sh", "-c", "cd /d; find . -type f | sort; cat one two").stdout
    assert seen.split() == ["./deep/four", "./one", "./two", "below", "above"]
    assert engine.docker("run", "--rm", base, "cat", "/d/two", "/d/deep/three").stdout == "below\nbelow\n"
    first = engine.docker("push", name).stdout
    assert first.count("Pushed") == 3

    engine.docker("run", "--name", "step", name, "sh", "-c", "echo newer >/d/two")
    engine.docker("commit", "step", name)
    engine.docker("rm", "step")
    second = engine.docker("push", name).stdout
    assert (second.count("Layer already exists"), second.count(": Pushed")) == (3, 1)
    digest = second.splitlines()[-1].split()[2]
    other = Engine(namespace=engine.namespace)
    try:
        other.start()
        pulled = other.docker("pull", f"{name}@{digest}").stdout
        assert pulled.count("Pull complete") == 4
        assert other.docker("run", "--rm", f"{name}@{digest}", "cat", "/d/two").stdout == "newer\n"
        shared = other.docker("pull", base, check=False)
        assert shared.returncode == 1  # it was never pushed by that name
        engine.docker("push", base)
        again = other.docker("pull", base).stdout
        assert (again.count("Already exists"), again.count("Pull complete")) == (2, 0)
    finally:
        other.close()
