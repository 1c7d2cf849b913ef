"""``volume export`` and ``import``, and snapshots of volumes whose files are elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.volumes import is_mounted, sh
from harness.waiting import until

pytestmark = pytest.mark.system
KINDS = {
    "directory": (),
    "image": ("-o", "size=24m", "-o", "backing=image"),
    "bind": ("-o", "type=none", "-o", "device={}", "-o", "o=bind"),
}


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    yield
    engine.docker("volume", "prune", "-af")


@pytest.fixture(params=KINDS)
def volume(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> str:
    """A volume of each kind, with a few files."""
    engine.docker("volume", "create", *(word.format(tmp_path) for word in KINDS[request.param]), "db")
    sh(engine, "db", "echo 1 > /p/table; mkdir /p/d; ln -s table /p/link; chown 7:8 /p/d; chmod 750 /p")
    return "db"


def test_all_kinds_go_back_to_a_snapshot(engine: Engine, volume: str) -> None:
    engine.boxship("volume", "snapshot", volume, "first")
    sh(engine, volume, "echo 2 > /p/table; rm -r /p/d; touch /p/new; chmod 777 /p")
    assert engine.boxship("volume", "diff", volume, "first").stdout == "C /\nD /d\nA /new\nC /table\n"
    engine.boxship("volume", "restore", volume, "first")
    assert (
        sh(engine, volume, "cat /p/link; stat -c %u:%g /p/d; ls -A /p; stat -c %a /p")
        == "1\n7:8\nd\nlink\ntable\n750\n"
    )
    engine.boxship("volume", "clone", volume, "copy")
    assert sh(engine, "copy", "cat /p/link") == "1\n"
    until(lambda: not is_mounted(engine, volume))


@pytest.mark.parametrize("volume", ["image"], indirect=True)
def test_a_snapshot_is_taken_while_a_container_runs(engine: Engine, volume: str) -> None:
    engine.docker("run", "-d", "--name", "user", "-v", f"{volume}:/p", "busybox", "sleep", "999")
    engine.boxship("volume", "snapshot", volume, "live")
    assert engine.docker("exec", "user", "cat", "/p/table").stdout == "1\n"
    refused = engine.boxship("volume", "restore", volume, "live", check=False)
    assert "in use by running containers" in refused.stderr
    engine.docker("rm", "-f", "user")


def test_a_tmpfs_has_snapshots_of_what_is_in_it_now(engine: Engine) -> None:
    engine.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast")
    words = ("-v", "fast:/p", "busybox", "sh", "-c", "echo 1 > /p/f; sleep 999")
    engine.docker("run", "-d", "--name", "user", *words)
    until(lambda: engine.docker("exec", "user", "cat", "/p/f", check=False).stdout == "1\n")
    engine.boxship("volume", "snapshot", "fast", "now")
    engine.docker("rm", "-f", "user")
    assert "nothing can be restored" in engine.boxship("volume", "restore", "fast", "now", check=False).stderr
    engine.boxship("volume", "backup", "-o", str(engine.root / "fast.tar"), "fast", "now")
    with tarfile.open(engine.root / "fast.tar") as tar:
        assert tar.getnames() == [".", "f"]


@pytest.mark.row("VOL-15")
@pytest.mark.parametrize("volume", ["directory"], indirect=True)
def test_an_export_comes_back_by_import(engine: Engine, volume: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("out") / "db.tar"
    sh(engine, volume, "mkfifo /p/pipe; ln /p/table /p/same")
    assert engine.boxship("volume", "export", "-o", str(path), volume).stdout == ""
    assert engine.boxship("volume", "snapshots", volume).stdout.split() == ["SNAPSHOT", "CREATED", "SIZE"]
    assert engine.boxship("volume", "import", "other", str(path)).stdout == "other\n"
    look = "cat /p/link; stat -c %u:%g /p/d; ls -A /p; stat -c %a /p; test -p /p/pipe && stat -c %h /p/same"
    assert sh(engine, "other", look) == "1\n7:8\nd\nlink\npipe\nsame\ntable\n750\n2\n"
    refused = engine.boxship("volume", "import", "other", str(path), check=False)
    assert "the volume has content: import into a new one" in refused.stderr


@pytest.mark.row("VOL-15")
@pytest.mark.parametrize("program", ["gzip", "zstd"])
def test_compressed_archives_and_pipes_are_read(engine: Engine, program: str) -> None:
    sh(engine, "db", "echo 1 > /p/table")
    engine.boxship("volume", "export", "-o", str(engine.root / "db.tar"), "db")
    packed = engine.root / f"db.{program}"
    with (engine.root / "db.tar").open("rb") as source, packed.open("wb") as target:
        subprocess.run([program, "-c"], stdin=source, stdout=target, check=True)
    with packed.open() as source:
        assert engine.boxship("volume", "import", "other", "-", stdin=source).stdout == "other\n"
    assert sh(engine, "other", "cat /p/table") == "1\n"


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, target: str, type: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, target
    return info


@pytest.mark.parametrize(
    "data",
    [
        tar_of((link("up", "../../../../../../../.."), b""), (tarfile.TarInfo("up/tmp/boxship-c3-escape"), b"x")),
        tar_of((link("abs", "/tmp"), b""), (tarfile.TarInfo("abs/boxship-c3-escape"), b"x")),
        tar_of((tarfile.TarInfo("../../boxship-c3-escape"), b"x")),
        tar_of((link("hard", "/etc/passwd", tarfile.LNKTYPE), b"")),
    ],
    ids=["upwards", "absolute", "dots", "hard"],
)
def test_c3_a_hostile_archive_writes_and_reads_nothing_outside(engine: Engine, tmp_path: Path, data: bytes) -> None:
    before = sorted(os.listdir(engine.data_root / "volumes")) if (engine.data_root / "volumes").exists() else []
    path = tmp_path / "bad.tar"
    path.write_bytes(data)
    done = engine.boxship("volume", "import", "bad", str(path), check=False)
    assert not Path("/tmp/boxship-c3-escape").exists()
    assert not list(engine.data_root.glob("**/boxship-c3-escape")) or done.returncode == 0
    for found in engine.data_root.glob("**/boxship-c3-escape"):
        assert found.is_relative_to(engine.data_root / "volumes/bad/_data")
    if done.returncode != 0:
        assert sorted(os.listdir(engine.data_root / "volumes")) == before
        assert engine.docker("volume", "ls", "-q").stdout == ""


@pytest.mark.parametrize("data", [b"rubbish" * 1000, b""], ids=["rubbish", "nothing"])
def test_what_is_no_archive_leaves_no_volume(engine: Engine, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(data)
    done = engine.boxship("volume", "import", "bad", str(path), check=False)
    if data:
        assert done.returncode == 1
        assert engine.docker("volume", "ls", "-q").stdout == ""


def test_c3_a_link_in_a_volume_leads_its_export_nowhere(engine: Engine, tmp_path: Path) -> None:
    sh(engine, "db", "ln -s /etc/passwd /p/passwd; ln -s / /p/root; ln -s ../../../../../etc /p/up")
    engine.boxship("volume", "export", "-o", str(tmp_path / "db.tar"), "db")
    with tarfile.open(tmp_path / "db.tar") as tar:
        assert {info.name: (info.issym(), info.linkname) for info in tar if info.name != "."} == {
            "passwd": (True, "/etc/passwd"),
            "root": (True, "/"),
            "up": (True, "../../../../../etc"),
        }


def test_c3_a_volume_that_was_made_a_link_is_not_followed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    engine.docker("volume", "create", "db")
    data = engine.data_root / "volumes/db/_data"
    data.rmdir()
    data.symlink_to(tmp_path)
    for words in (("export", "-o", str(tmp_path / "x.tar"), "db"), ("snapshot", "db"), ("clone", "db", "copy")):
        assert engine.boxship("volume", *words, check=False).returncode == 1
    engine.docker("volume", "rm", "db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious"]


def test_c4_copy_up_never_writes_over_what_is_there(engine: Engine) -> None:
    sh(engine, "db", "echo mine > /p/sh; ln -s /etc /p/link")
    engine.docker("run", "--rm", "-v", "db:/bin", "busybox", "true", check=False)
    assert sh(engine, "db", "ls -A /p; cat /p/sh") == "link\nsh\nmine\n"


def made_container(engine: Engine) -> str:
    return engine.docker("create", "busybox").stdout.strip()


@pytest.mark.parametrize("place", ["../../../../tmp/boxship-c5", "/../../tmp/boxship-c5", "/etc/../../tmp/boxship-c5"])
def test_c5_a_volume_of_an_image_stays_in_the_container(engine: Engine, tmp_path: Path, place: str) -> None:
    (tmp_path / "Dockerfile").write_text(f'FROM busybox\nVOLUME ["{place}"]\n')
    built = engine.boxship("build", "-t", "c5", str(tmp_path), check=False)
    assert (built.returncode, "invalid volume" in built.stderr) == (1, True), built.stderr
    committed = engine.docker("commit", "--change", f"VOLUME {place}", made_container(engine), "c5", check=False)
    assert (committed.returncode, "invalid volume" in committed.stderr) == (1, True), committed.stderr
    assert "c5" not in engine.docker("images").stdout
    assert not Path("/tmp/boxship-c5").exists()
