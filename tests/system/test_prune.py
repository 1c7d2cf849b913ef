"""What nothing uses is removed on request, of each kind and of all at once; filters and words are Docker's."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable

import pytest

from harness.engine import Engine

pytestmark = [pytest.mark.system, pytest.mark.row("RUN-49")]
CLI = Callable[..., subprocess.CompletedProcess[str]]


def names(cli: CLI, *words: str) -> set[str]:
    return set(cli(*words).stdout.split())


@pytest.fixture
def containers(engine: Engine) -> None:
    """One running container and stopped ones with and without labels."""
    engine.docker("run", "-d", "--name", "running", "busybox", "sleep", "1000")
    engine.docker("run", "--name", "plain", "busybox", "dd", "if=/dev/zero", "of=/file", "bs=1000", "count=3")
    engine.docker("create", "--name", "kept", "--label", "keep=yes", "busybox", "true")
    engine.docker("create", "--name", "old", "--label", "keep=no", "busybox", "true")


@pytest.mark.row("API-19")
def test_containers_are_pruned_by_label_and_age(cli: CLI, containers: None) -> None:
    listed = ("ps", "-a", "--format", "{{.Names}}")
    assert cli("container", "prune", "-f", "--filter", "until=1h").stdout == "Total reclaimed space: 0B\n"
    assert len(names(cli, *listed)) == 4
    id = cli("inspect", "-f", "{{.Id}}", "plain").stdout.strip()
    pruned = cli("container", "prune", "-f", "--filter", "label!=keep", "--filter", "until=2100-01-01").stdout
    assert pruned == f"Deleted Containers:\n{id}\n\nTotal reclaimed space: 3kB\n"
    assert cli("container", "prune", "-f", "--filter", "label=keep=no").returncode == 0
    assert names(cli, *listed) == {"running", "kept"}
    for kind in ("container", "image", "network", "volume"):
        wrong = cli(kind, "prune", "-f", "--filter", "bogus=1", check=False)
        assert (wrong.returncode, wrong.stderr) == (1, "Error response from daemon: invalid filter 'bogus'\n")
        if kind != "volume":
            wrong = cli(kind, "prune", "-f", "--filter", "until=soon", check=False)
            assert (wrong.returncode, "until" in wrong.stderr) == (1, True)


def test_a_prune_that_is_not_confirmed_removes_nothing(cli: CLI, containers: None) -> None:
    asked = cli("container", "prune", input="n\n")
    assert asked.stdout == (
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "
    )
    asked = cli("system", "prune", "-a", "--volumes", "--filter", "label=x", input="\n")
    assert asked.stdout == (
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
        "  - all anonymous volumes not used by at least one container\n"
        "  - all images without at least one container associated to them\n  - all build cache\n\n"
        "  Items to be pruned will be filtered with:\n  - label=x\n\n"
        "Are you sure you want to continue? [y/N] "
    )
    assert len(names(cli, "ps", "-aq")) == 4
    confirmed = cli("container", "prune", input="y\n").stdout
    assert "[y/N] Deleted Containers:\n" in confirmed
    assert names(cli, "ps", "-a", "--format", "{{.Names}}") == {"running"}


@pytest.mark.row("API-19", "API-15")
def test_anonymous_volumes_are_pruned_and_named_ones_on_request(cli: CLI) -> None:
    cli("run", "--name", "user", "-v", "used:/used", "-v", "/anonymous", "busybox", "touch", "/anonymous/file")
    cli("volume", "create", "--label", "keep", "kept")
    cli("volume", "create", "spare")
    assert "Deleted Volumes" not in cli("volume", "prune", "-f").stdout
    cli("rm", "user")
    anonymous = (names(cli, "volume", "ls", "-q") - {"used", "kept", "spare"}).pop()
    assert cli("volume", "prune", "-f").stdout.startswith(f"Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: ")
    assert names(cli, "volume", "ls", "-q") == {"used", "kept", "spare"}
    cli("volume", "prune", "-af", "--filter", "label!=keep")
    assert names(cli, "volume", "ls", "-q") == {"kept"}
    cli("volume", "rm", "kept")


@pytest.mark.row("API-19", "API-12")
def test_images_are_pruned_when_dangling_and_all_on_request(cli: CLI, engine: Engine) -> None:
    cli("create", "--name", "source", "busybox")
    for change, reference in (("LABEL keep=yes", "base:kept"), ("LABEL keep=no", "base:spare"), ("ENV A=b", "")):
        cli("commit", "-c", change, "source", *([reference] if reference else []))
    dangling = names(cli, "images", "-q", "-f", "dangling=true")
    pruned = cli("image", "prune", "-f").stdout
    assert re.search(rf"^deleted: sha256:{dangling.pop()}", pruned, re.MULTILINE)
    assert "untagged" not in pruned
    pruned = cli("image", "prune", "-af", "--filter", "label!=keep=yes").stdout
    assert re.findall("^untagged: (.+)$", pruned, re.MULTILINE) == ["base:spare"]  # busybox has a container
    cli("rmi", "base:kept")


@pytest.mark.row("API-14")
def test_system_prune_takes_all_kinds_and_leaves_what_is_used(cli: CLI, engine: Engine, containers: None) -> None:
    cli("run", "--name", "user", "-v", "/anonymous", "busybox", "true")
    anonymous = cli("volume", "ls", "-q").stdout.strip()
    cli("rm", "user")
    cli("commit", "plain", "spare:1")
    stopped = [cli("inspect", "-f", "{{.Id}}", name).stdout.strip() for name in ("plain", "kept", "old")]
    pruned = cli("system", "prune", "-f").stdout
    assert pruned.startswith("Deleted Containers:\n")
    assert all(f"{id}\n" in pruned for id in stopped)
    assert pruned.endswith("Total reclaimed space: 3kB\n")
    assert "spare:1" in cli("images", "--format", "{{.Repository}}:{{.Tag}}").stdout
    pruned = cli("system", "prune", "-af", "--volumes").stdout
    assert f"Deleted Volumes:\n{anonymous}\n" in pruned
    assert "untagged: spare:1\n" in pruned
    assert names(cli, "images", "--format", "{{.Repository}}") == {"busybox"}
    assert names(cli, "ps", "-a", "--format", "{{.Names}}") == {"running"}
    assert names(cli, "network", "ls", "--format", "{{.Name}}") == {"bridge", "host", "none"}
    assert cli("network", "prune", "-f").stdout == ""


def test_prunes_tell_it_in_events(cli: CLI, engine: Engine) -> None:
    for kind in ("container", "image", "volume"):
        cli(kind, "prune", "-f")
    shown = cli(
        "events",
        "--since",
        "0",
        "--until",
        f"{time.time():.9f}",
        "--filter",
        "event=prune",
        "--format",
        "{{.Type}} {{.Actor.Attributes}}",
    ).stdout.splitlines()
    assert set(shown) >= {f"{kind} map[reclaimed:0]" for kind in ("container", "image", "volume")}
