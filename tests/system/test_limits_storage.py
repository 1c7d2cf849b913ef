"""``--storage-opt size``: a bound of the writable layer, on file systems with project quotas."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.linux import project_quota
from boxship.snapshots import tree
from harness import loop
from harness.engine import Engine
from harness.images import import_busybox, import_program

pytestmark = pytest.mark.system
FILESYSTEMS = {
    "ext4": ("mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota", "prjquota"),
    "xfs": ("mkfs.xfs -q", "pquota"),
}
WORDS = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"


@contextlib.contextmanager
def engine_on(directory: Path, *options: str) -> Iterator[Engine]:
    """Run an engine whose data root is there."""
    engine = Engine(options=options)
    engine.isolate_cgroups()
    (engine.root / "data").symlink_to(directory)
    try:
        engine.start()
        import_busybox(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module", params=FILESYSTEMS)
def bounded(request: pytest.FixtureRequest) -> Iterator[Engine]:
    make, options = FILESYSTEMS[request.param]
    with loop.filesystem(make, options) as directory, engine_on(directory) as engine:
        yield engine


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "bounded" in request.fixturenames:
        engine = request.getfixturevalue("bounded")
        for row in engine.api("GET", "/containers/json?all=1")[1]:
            engine.api("DELETE", f"/containers/{row['Id']}?force=1&v=1")


def projects(engine: Engine) -> dict[int, tuple[int, int]]:
    """Return the limit and use of the projects that layers of the engine have."""
    found = {}
    for path in (engine.data_root / "overlay2").iterdir():
        with tree.opened(os.open(path, os.O_RDONLY)) as fd:
            if number := project_quota.project(fd):
                found[number] = project_quota.usage(fd, number)
    return found


@pytest.mark.row("RES-17")
def test_a_bounded_container_can_write_that_much_and_no_more(bounded: Engine) -> None:
    words = ("--storage-opt", "size=10m", "busybox", "sh", "-c")
    fill = "dd if=/dev/zero of=/f bs=1M count={}"
    assert bounded.docker("run", "--rm", *words, fill.format(8)).returncode == 0
    full = bounded.docker("run", "--name", "it", *words, fill.format(12), check=False)
    assert full.returncode == 1
    assert "quota exceeded" in full.stderr or "No space left" in full.stderr, full.stderr
    assert [limit for limit, _ in projects(bounded).values()] == [10 << 20]
    free = bounded.docker("run", "--rm", "busybox", "sh", "-c", fill.format(12))
    assert free.returncode == 0


@pytest.mark.row("RES-17")
def test_renames_deletions_and_what_the_image_has_work_below_a_bound(bounded: Engine) -> None:
    script = (
        "echo a > /etc/passwd && mv /var /b && mkdir /var && rm -r /bin/ls /home && mv /etc/passwd /b && cat /b/passwd"
    )
    assert bounded.docker("run", "--storage-opt", "size=10m", "busybox", "sh", "-c", script).stdout == "a\n"


@pytest.mark.row("RES-17")
def test_removal_frees_the_projects_number(bounded: Engine) -> None:
    bounded.docker("create", "--name", "it", "--storage-opt", "size=10m", "busybox")
    (number,) = projects(bounded)
    bounded.docker("rm", "it")
    with tree.opened(os.open(bounded.data_root, os.O_RDONLY)) as fd:
        assert project_quota.usage(fd, number)[0] == 0


@pytest.mark.row("RES-17")
def test_root_in_a_container_cannot_leave_its_bound(bounded: Engine) -> None:
    """A file that was given another project would count there."""
    import_program(bounded, "chattr", "chattr")
    change = ": > /f; chattr -p 0 /f; chattr -p 0 /; chattr -P /; chattr +P /f"
    script = f"{change}; dd if=/dev/zero of=/f bs=1M count=12; : > /g; dd if=/dev/zero of=/g bs=1M count=12"
    words = ("--storage-opt", "size=10m", "chattr", "sh", "-c", script)
    full = bounded.docker("run", "--name", "it", *words, check=False)
    assert full.returncode == 1, full
    ((limit, used),) = projects(bounded).values()
    assert limit >= used >= limit * 9 // 10, full


@pytest.mark.row("RES-17")
def test_elsewhere_a_bound_is_refused_and_nothing_is_left(engine: Engine) -> None:
    before = {path.name for path in (engine.data_root / "overlay2").iterdir()}
    refused = engine.docker("create", "--storage-opt", "size=10m", "busybox", check=False)
    assert WORDS in refused.stderr
    engine.docker("create", "busybox")
    assert len({path.name for path in (engine.data_root / "overlay2").iterdir()} - before) == 2  # that one's two layers
    for words, text in (("size=10x", "invalid size: '10x'"), ("color=red", "Unknown option color")):
        assert text in engine.docker("create", "--storage-opt", words, "busybox", check=False).stderr
