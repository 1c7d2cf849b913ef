"""Images with real overlay snapshots, beside a real dockerd and podman, on full disks and under kill -9."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from boxship.base.errors import BoxshipError, SystemFailure
from boxship.content import ContentStore
from boxship.images import ImageService
from boxship.snapshots import OverlaySnapshotter
from boxship.store import Store
from harness.dockerd import Dockerd
from harness.images import busybox_tar

pytestmark = pytest.mark.system

SOURCE = Path(__file__).parents[3] / "src"


class Bench:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(str(root / "boxship.db"))
        self.content = ContentStore(str(root / "content"), self.store)
        self.snapshots = OverlaySnapshotter(str(root / "overlay2"), self.store)
        self.service = ImageService(self.store, self.content, self.snapshots, emit=lambda *_: None, users=list)

    def import_(self, data: bytes, name: str) -> str:
        options = {"tag": "", "message": "", "changes": ['CMD ["sh"]'], "platform": None}
        return collect(self.service.import_(chunks(data), repository=name, **options))[-1]["status"]

    def load(self, data: bytes) -> list[str]:
        return [message["stream"] for message in collect(self.service.load(chunks(data), quiet=True))]

    def save(self, *refs: str) -> bytes:
        async def run() -> bytes:
            return b"".join([piece async for piece in await self.service.save(refs)])

        return asyncio.run(run())

    def remove(self, ref: str) -> None:
        asyncio.run(self.service.remove(ref, force=False, prune=True))

    def remains(self) -> list[str]:
        """Everything that belongs to an image, on disk and in the store."""
        with self.store.read() as transaction:
            kinds = ("image", "layer", "blob", "snapshot")
            rows = [f"{kind} {id}" for kind in kinds for id, _ in transaction.list(kind)]
        files = [str(path) for path in (self.root / "content").rglob("*") if path.is_file()]
        return rows + files + os.listdir(self.root / "overlay2")


def collect(messages: AsyncIterator[dict[str, object]]) -> list[dict]:
    async def run() -> list[dict]:
        return [message async for message in messages]

    return asyncio.run(run())


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.store.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Dockerd]:
    try:
        peer = Dockerd(["--iptables=false", "--bridge=none"])
        peer.start()
    except RuntimeError as exc:
        pytest.skip(str(exc))
    yield peer
    peer.close()


def files_of(bench: Bench, ref: str) -> Path:
    data = bench.snapshots.graph_data(bench.service.resolve(ref).chain_id)
    return Path(data["UpperDir"])


@pytest.mark.row("IMG-01", "IMG-15")
def test_an_imported_tree_lies_in_the_layers_directory(bench: Bench) -> None:
    bench.import_(busybox_tar(), "busybox")
    assert (files_of(bench, "busybox") / "bin/busybox").stat().st_mode & 0o777 == 0o755
    assert os.readlink(files_of(bench, "busybox") / "bin/sh") == "busybox"


@pytest.mark.row("IMG-14", "IMG-25")
def test_a_round_trip_keeps_id_files_and_bytes(bench: Bench) -> None:
    id = bench.import_(busybox_tar(), "busybox")
    saved = bench.save("busybox")
    bench.remove("busybox")
    assert bench.remains() == []
    assert bench.load(saved) == ["Loaded image: busybox:latest\n"]
    assert bench.service.resolve("busybox").id == id
    assert (files_of(bench, "busybox") / "bin/busybox").exists()
    assert bench.save("busybox") == saved


@pytest.mark.row("IMG-14", "IMG-25")
def test_images_travel_between_us_and_dockerd_with_the_same_id(bench: Bench, dockerd: Dockerd, tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    root.write_bytes(busybox_tar())
    dockerd.docker("import", "-c", 'CMD ["sh"]', str(root), "base:1")
    container = dockerd.docker("create", "base:1", "true").stdout.strip()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/added").write_text("hello")
    dockerd.docker("cp", str(tmp_path / "etc/added"), f"{container}:/etc/added")
    dockerd.docker("commit", "-c", "ENV A=b", container, "user/top:2")
    dockerd.docker("rm", container)
    theirs = dockerd.docker("inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", "user/top:2").stdout
    dockerd.docker("save", "-o", str(tmp_path / "theirs.tar"), "user/top:2", "base:1")

    loaded = bench.load((tmp_path / "theirs.tar").read_bytes())
    assert sorted(loaded) == ["Loaded image: base:1\n", "Loaded image: user/top:2\n"]
    image = bench.service.resolve("user/top:2")
    assert f"{image.id} [{' '.join(image.diff_ids)}]\n" == theirs
    assert (files_of(bench, "user/top:2") / "etc/added").read_text() == "hello"
    assert image.config.env == ["A=b"]

    dockerd.docker("rmi", "user/top:2", "base:1")
    (tmp_path / "ours.tar").write_bytes(bench.save("user/top:2", "base:1"))
    answer = dockerd.docker("load", "-i", str(tmp_path / "ours.tar")).stdout
    assert sorted(answer.splitlines()) == ["Loaded image: base:1", "Loaded image: user/top:2"]
    assert dockerd.docker("inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", "user/top:2").stdout == theirs
    dockerd.docker("rmi", "user/top:2", "base:1")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is shorter than pytest's: podman allows 50 characters."""
    with tempfile.TemporaryDirectory(prefix="podman-") as path:
        yield Path(path)


@pytest.mark.row("IMG-14")
@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_podman_reads_what_we_save(bench: Bench, tmp_path: Path, short_path: Path) -> None:
    id = bench.import_(busybox_tar(), "busybox:ours")
    (tmp_path / "ours.tar").write_bytes(bench.save("busybox:ours"))
    podman = ["podman", "--root", str(tmp_path / "podman"), "--runroot", str(short_path), "--storage-driver=vfs"]
    done = subprocess.run(
        [*podman, "load", "-i", str(tmp_path / "ours.tar")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([*podman, "images", "-q", "--no-trunc"], capture_output=True, text=True, check=True).stdout
    assert listed.strip() == id
    saved = tmp_path / "podman.tar"
    subprocess.run(
        [*podman, "save", "--format", "oci-archive", "-o", str(saved), "docker.io/library/busybox:ours"],
        capture_output=True,
        check=True,
    )
    bench.remove("busybox:ours")
    bench.load(saved.read_bytes())
    (layer,) = bench.service.resolve("busybox:ours").diff_ids
    with tarfile.open(fileobj=io.BytesIO(bench.save("busybox:ours"))) as tar:
        assert "blobs/" + layer.replace(":", "/") in tar.getnames()


def _tar(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.row("IMG-24")
@pytest.mark.parametrize("way", ["import", "load"])
def test_f3_a_full_disk_fails_the_operation_and_leaves_nothing(small_disk: Path, way: str) -> None:
    bench = Bench(small_disk)
    free = shutil.disk_usage(small_disk).free
    layer = _tar("large", os.urandom(8 * 1024 * 1024))
    with pytest.raises(SystemFailure, match="no space left on device"):
        if way == "import":
            bench.import_(layer, "large")
        else:
            bench.load(_tar("layer.tar", layer))
    assert bench.remains() == []
    bench.import_(busybox_tar()[:0], "empty")
    bench.remove("empty")
    assert bench.remains() == []
    assert shutil.disk_usage(small_disk).free >= free - 512 * 1024
    bench.store.close()


KILLED = """
import asyncio, sys
sys.path.insert(0, {source!r})
from boxship.content import ContentStore
from boxship.images import ImageService
from boxship.snapshots import OverlaySnapshotter
from boxship.store import Store

async def stdin():
    while data := sys.stdin.buffer.read1(65536):
        yield data

async def main():
    store = Store({root!r} + "/boxship.db")
    content = ContentStore({root!r} + "/content", store)
    snapshots = OverlaySnapshotter({root!r} + "/overlay2", store)
    service = ImageService(store, content, snapshots, emit=lambda *_: None, users=lambda: [])
    options = dict(tag="", message="", changes=[], platform=None)
    async for message in service.import_(stdin(), repository="app", **options):
        print(message, flush=True)

asyncio.run(main())
"""


@pytest.mark.row("IMG-24")
def test_f1_a_killed_import_leaves_nothing_after_the_next_start(tmp_path: Path) -> None:
    tar = busybox_tar()
    script = KILLED.format(source=str(SOURCE), root=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(tar[: len(tar) // 2])
    process.stdin.flush()
    unpacked = tmp_path / "overlay2"
    while not any(unpacked.rglob("bin")):  # it is in the middle now
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()

    bench = Bench(tmp_path)
    bench.snapshots.cleanup()
    asyncio.run(bench.service.sweep())
    assert bench.remains() == []
    bench.import_(tar, "app")
    bench.store.close()


def test_c6_a_layer_with_tricks_changes_nothing_outside(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, type, link in (
            ("../../outside", tarfile.REGTYPE, ""),
            (str(outside), tarfile.REGTYPE, ""),
            ("link", tarfile.SYMTYPE, str(tmp_path)),
            ("link/outside", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = type, link
            tar.addfile(member, io.BytesIO(b""))
    try:
        bench.import_(out.getvalue(), "tricks")
    except BoxshipError:
        assert bench.remains() == []
    assert outside.read_text() == "untouched"
