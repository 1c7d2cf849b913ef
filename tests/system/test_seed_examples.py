"""The examples that the platform was asked for, typed as they stand there; docs/seed-examples.md lists all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import sessions
from harness.engine import Engine
from harness.packages import NoArchive, packages_tar
from harness.seed_examples import EXAMPLES, HERE, page
from harness.sessions import Session
from harness.terminal import Terminal

pytestmark = pytest.mark.system
Open = Callable[..., Terminal]
ROOT = Path(__file__).parents[2]
SESSIONS = sessions.read(sorted(Path(__file__).with_name("seed").glob("*.session")))

# Ours as well where the point is what a command line says or how it reads its words.
OWN = (6, 12, 38, 40, 47, 65, 75, 86, 117, 142, 152, 157, 163, 183)
RUNS = [
    (program, session)
    for session in SESSIONS
    for program in ("docker", "boxship")
    if program == "docker" or session.number in OWN
]

REDIS_ENTRYPOINT = '#!/bin/sh\nexec "$@"\n'
COWSAY = """#!/bin/sh
printf ' %s \\n< %s >\\n %s \\n' "$(echo "$*" | tr '[:print:]' _)" "$*" "$(echo "$*" | tr '[:print:]' -)"
"""
TAGS = {
    "busybox": ("alpine:latest", "alpine:3.6"),
    "nginx": ("nginx:1.10.2-alpine",),
    "redis": ("redis:4.0", "redis:5.0"),
    "ubuntu": ("debian:latest",),
}
DPKG_TABLES = ("cputable", "tupletable")
NGINX = """events {}
http { server { listen 80; root /var/www/html; index index.html; } }
"""


@pytest.fixture(scope="module")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The images that the examples name."""
    try:
        make_images(engine, tmp_path_factory.mktemp("debian"))
    except NoArchive as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def own_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A directory with our command line under the name ``docker``."""
    directory = tmp_path_factory.mktemp("bin")
    program = directory / "docker"
    start = "import sys; from boxship.cli.main import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    yield str(directory)


@pytest.mark.timeout(300)
@pytest.mark.words_of_docker_28
@pytest.mark.parametrize(("program", "session"), RUNS, ids=[f"{program}-{session.number}" for program, session in RUNS])
def test_example(program: str, session: Session, engine: Engine, images: None, own_cli: str, tmp_path: Path) -> None:
    environment = engine.client_environment()
    if program == "boxship":
        environment["PATH"] = f"{own_cli}:{os.environ['PATH']}"
    done = subprocess.run(
        [*engine.namespace.prefix(), "sh", "-c", session.script()],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    session.check(done.stdout)


# On a terminal: the number, the command, and what is typed and then waited for.
TYPED: tuple[tuple[int, str, tuple[tuple[str, str], ...]], ...] = (
    (8, "exec -ti web ./bin/sh", (("pwd; tty", r"\r\n/\r\n/dev/pts/\d"), ("exit", ""))),
    (15, "run -it --rm debian sh", (("tty", "/dev/pts/0"), ("exit", ""))),
    (18, "run --interactive --tty ubuntu bash", (("echo $BASH_VERSION", r"\n5\."), ("exit", ""))),
    (35, "run --rm -ti alpine:latest /bin/sh", (("cat /proc/1/comm", r"\nsh\r"), ("exit", ""))),
    (80, "run -i -t debian /bin/bash", (("echo /proc/[0-9]*", r"\n/proc/1\r\n"), ("exit", ""))),
    (82, "exec -it web /bin/bash", (("tr '\\0' ' ' </proc/1/cmdline; tty", r"nginx.*/dev/pts/\d"), ("exit", ""))),
    (183, "run -it busybox sh", (("echo $((40+2))", "42"), ("exit", ""))),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "command", "typed"), TYPED, ids=[f"{number}" for number, _, _ in TYPED])
def test_example_on_a_terminal(
    number: int, command: str, typed: tuple[tuple[str, str], ...], engine: Engine, images: None, terminal: Open
) -> None:
    if " web " in command:
        engine.docker("run", "-d", "--name", "web", "nginx")
    screen = terminal(engine, *command.split())
    for line, pattern in typed:
        screen.expect("[#$] ")
        screen.send(f"{line}\n")
        if pattern:
            screen.expect(f"(?s){pattern}")
    assert screen.wait() == 0


@pytest.mark.timeout(300)
def test_example_120(engine: Engine, images: None, terminal: Open) -> None:
    screen = terminal(engine, "container", "run", "-it", "--name", "test", "alpine", "sh")
    screen.expect("# ")
    screen.send("\x10\x11")  # ctrl-p ctrl-q
    assert screen.wait() == 0
    assert engine.docker("ps", "--format", "{{.Names}}").stdout == "test\n"
    assert engine.docker("container", "rm", "test", "-f").stdout == "test\n"


def test_every_example_has_its_place() -> None:
    here = {session.number for session in SESSIONS} | {number for number, _, _ in TYPED} | {120}
    assert set(EXAMPLES) == set(range(1, 195))
    assert {number for number, example in EXAMPLES.items() if example.place == HERE} == here
    for example in EXAMPLES.values():
        path, _, name = example.place.partition("::")
        if name and example.place != HERE:
            assert f"def {name}(" in (ROOT / path).read_text()


def test_the_page_of_examples_is_current() -> None:
    assert (ROOT / "docs/seed-examples.md").read_text() == page()


def make_images(engine: Engine, directory: Path) -> None:
    """Make the examples' images out of busybox and of Debian's packages; raises NoArchive."""
    root = packages_tar(
        directory,
        ["apt", "bash", "coreutils", "hostname", "mount", "util-linux", "nginx-light", "redis-server"],
        files={
            "usr/bin/docker-entrypoint.sh": REDIS_ENTRYPOINT,
            "usr/games/cowsay": COWSAY,
            "var/www/html/index.html": "<title>Welcome to nginx!</title>\n",
            "var/log/nginx/error.log": "",
            "var/lib/nginx/body/keep": "",
            # Of dpkg, which a root without maintainer scripts leaves out: apt asks them for the architecture.
            **{f"usr/share/dpkg/{name}": Path(f"/usr/share/dpkg/{name}").read_text() for name in DPKG_TABLES},
        },
        passwd="www-data:x:33:33::/var/www:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n",
        group="www-data:x:33:\n",
    )
    engine.docker("import", "-c", 'CMD ["bash"]', str(root), "ubuntu:latest")
    root.unlink()
    (engine.root / "nginx.conf").write_text(NGINX)
    engine.docker("create", "--name", "base", "ubuntu")
    engine.docker("cp", str(engine.root / "nginx.conf"), "base:/etc/nginx/nginx.conf")
    recipes = {
        "nginx": ('CMD ["nginx", "-g", "daemon off;"]', "EXPOSE 80"),
        "redis": ('ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["redis-server"]', "EXPOSE 6379"),
        "docker/whalesay": ("ENV PATH=/usr/bin:/usr/games",),
    }
    for name, changes in recipes.items():
        engine.docker("commit", *(word for change in changes for word in ("-c", change)), "base", name)
    engine.docker("rm", "base")
    for name, tags in TAGS.items():
        for tag in tags:
            engine.docker("tag", name, tag)
