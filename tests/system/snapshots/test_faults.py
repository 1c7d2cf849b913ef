"""Full disks, killed processes, stale mounts."""

import errno
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.base.errors import BoxshipError, SystemFailure
from boxship.content import ContentStore
from boxship.linux import fs, mount
from boxship.snapshots import OverlaySnapshotter, VfsSnapshotter, detached, open_snapshotter, tree
from boxship.store import Store

pytestmark = pytest.mark.system

MIB = 1024 * 1024


def layer(size: int, files: int = 1) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for n in range(files):
            info = tarfile.TarInfo(f"f{n}")
            info.size = size
            archive.addfile(info, io.BytesIO(os.urandom(size)))
    out.seek(0)
    return out


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount.mount("tmpfs", str(place), "tmpfs", 0, "size=8m,mode=0700")
    yield place
    mount.umount2(str(place), mount.MNT_DETACH)


def fill(place: Path) -> None:
    """Leave no byte free."""
    with (place / "filler").open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass


def test_f3_a_layer_that_does_not_fit_leaves_nothing(small: Path) -> None:
    store = Store(str(small / "db"))
    snapshotter = OverlaySnapshotter(str(small / "overlay2"), store)
    snapshotter.prepare("k", None)
    with pytest.raises(SystemFailure, match="no space left on device"):
        snapshotter.apply("k", layer(MIB, 10))
    assert snapshotter.usage("k") == 0
    assert snapshotter.apply("k", layer(MIB, 2)).size == 2 * MIB
    store.close()


def test_f3_a_blob_that_does_not_fit_leaves_nothing(small: Path) -> None:
    store = Store(str(small / "db"))
    content = ContentStore(str(small / "content"), store)
    with pytest.raises(SystemFailure, match="no space left"):
        content.add(bytes(8 * MIB))
    assert content.list() == []
    assert [path for path in (small / "content").rglob("*") if path.is_file()] == []
    store.close()


def test_f3_a_full_disk_can_be_emptied(small: Path) -> None:
    store = Store(str(small / "db"))
    content = ContentStore(str(small / "content"), store)
    snapshotter = OverlaySnapshotter(str(small / "overlay2"), store)
    digests = [content.add(bytes([n]) * 1000) for n in range(5)]
    for n in range(5):
        snapshotter.prepare(f"k{n}", None)
    fill(small)
    with pytest.raises((BoxshipError, OSError)):
        store.write_now(lambda t: t.put("k", "large", bytes(4 * MIB)))
    for n in range(5):
        snapshotter.remove(f"k{n}")
    assert content.collect([]) == 5000
    assert not any(content.exists(digest) for digest in digests)
    assert snapshotter.list() == []
    store.close()


def test_f3_one_change_that_is_too_large_does_not_fail_the_others(small: Path) -> None:
    import asyncio

    store = Store(str(small / "db"))

    async def run() -> list[object]:
        writes = [store.write(lambda t, n=n: t.put("k", str(n), bytes(16 * MIB if n == 5 else 10))) for n in range(10)]
        return await asyncio.gather(*writes, return_exceptions=True)

    results = asyncio.run(run())
    assert [isinstance(result, SystemFailure) for result in results] == [n == 5 for n in range(10)]
    with store.read() as transaction:
        assert len(transaction.list("k")) == 9
    store.close()


WORKER = """
import io, sys, tarfile
from boxship.store import Store
from boxship.content import ContentStore
from boxship.snapshots import open_snapshotter
root, driver = sys.argv[1:]
store = Store(f"{root}/db")
content = ContentStore(f"{root}/content", store)
snapshotter = open_snapshotter(root, store, driver)
snapshotter.cleanup()
def layer(n):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("a", "b/c", "b/d"):
            info = tarfile.TarInfo(name); info.size = 3000
            archive.addfile(info, io.BytesIO(bytes([n % 256]) * 3000))
    return out.getvalue()
print("ready", flush=True)
n = 0
while True:
    n += 1
    data = layer(n)
    digest = content.add(data)
    key, name = f"extract-{n}", f"layer-{n}-{digest}"
    if not snapshotter.exists(name):
        snapshotter.prepare(key, None)
        applied = snapshotter.apply(key, io.BytesIO(data))
        snapshotter.commit(name, key, diff_id=applied.diff_id, size=applied.size)
    container = f"container-{n}"
    if not snapshotter.exists(container):
        snapshotter.prepare(container, snapshotter.prepare_init(name))
    if n % 2:
        snapshotter.remove(container)
        snapshotter.remove(name)
    print(n, flush=True)
"""


@pytest.mark.row("IMG-24")
@pytest.mark.parametrize("driver", ["overlay2", "vfs"])
def test_f1_killed_anywhere_the_next_start_finds_whole_snapshots(tmp_path: Path, driver: str) -> None:
    for delay_lines in range(1, 13):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), driver],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )
        assert worker.stdout is not None
        for _ in range(delay_lines):
            assert worker.stdout.readline()
        worker.send_signal(signal.SIGKILL)  # somewhere in the step after the line
        worker.wait()
        worker.stdout.close()
        store = Store(str(tmp_path / "db"))
        content = ContentStore(str(tmp_path / "content"), store)
        snapshotter = open_snapshotter(str(tmp_path), store, driver)
        assert isinstance(snapshotter, OverlaySnapshotter | VfsSnapshotter)
        cleaned = snapshotter.cleanup()
        assert (cleaned.unknown, cleaned.lost, cleaned.unmounted) == ([], [], [])
        for descriptor in content.list():
            content.verify(descriptor.digest)
        infos = snapshotter.list()
        for info in infos:
            if info.key.startswith("layer-"):
                assert snapshotter.usage(info.key) == info.size == 9000
        with store.read() as transaction:
            owned = {owner.path for owner in transaction.owners() if owner.kind == "snapshot"}
        assert owned == {info.path for info in infos} == {entry.path for entry in os.scandir(snapshotter.root)}
        for info in reversed(infos):
            if info.key.startswith("container-"):
                snapshotter.remove(info.key)
        for info in infos:
            if info.key.startswith("layer-"):
                snapshotter.remove(info.key)
        assert snapshotter.list() == []
        assert list(os.scandir(snapshotter.root)) == []
        store.close()


def mounts_below(path: Path) -> int:
    return Path("/proc/self/mountinfo").read_text().count(f" {path}/")


def test_f10_stale_mounts_are_taken_away_and_used_ones_left(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    snapshotter = OverlaySnapshotter(str(tmp_path / "overlay2"), store)
    init = snapshotter.prepare_init(None)
    for key in ("stale", "used"):
        snapshotter.prepare(key, init)
        rootfs = snapshotter.rootfs(key)
        lower = rootfs["lower"]
        assert isinstance(lower, list)
        target = str(rootfs["target"])
        tree_fd = detached.overlay(lower, target, str(rootfs["upper"]), str(rootfs["work"]))
        place_fd = tree.open_root(target)
        mount.move_mount(tree_fd, place_fd)
        os.close(place_fd)
        os.close(tree_fd)
    with snapshotter.view("used") as fd:  # the running container's own tree
        assert os.fstat(fd).st_dev == os.stat(str(snapshotter.rootfs("used")["target"])).st_dev
    assert mounts_below(tmp_path) == 2
    assert snapshotter.cleanup(["used"]).unmounted == [snapshotter.rootfs("stale")["target"]]
    assert mounts_below(tmp_path) == 1
    snapshotter.remove("used")
    assert mounts_below(tmp_path) == 0
    store.close()


def test_f10_a_directory_mounted_on_itself_is_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    snapshotter = VfsSnapshotter(str(tmp_path / "vfs"), store)
    snapshotter.prepare("k", None)
    target = str(snapshotter.rootfs("k")["target"])
    mount.mount(target, target, None, mount.MS_BIND)
    snapshotter.remove("k")
    assert mounts_below(tmp_path) == 0
    assert not os.path.exists(target)
    store.close()


@pytest.mark.row("IMG-05")
def test_graph_data_names_the_directories_that_hold_the_files(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    snapshotter = OverlaySnapshotter(str(tmp_path / "overlay2"), store)
    snapshotter.prepare("extract-1", None)
    snapshotter.apply("extract-1", layer(1000))
    snapshotter.commit("base", "extract-1")
    data = snapshotter.graph_data("base")
    assert sorted(data) == ["MergedDir", "UpperDir", "WorkDir"]
    assert (Path(data["UpperDir"]) / "f0").stat().st_size == 1000
    init = snapshotter.prepare_init("base")
    snapshotter.prepare("container", init)
    lower = snapshotter.graph_data("container")["LowerDir"].split(":")
    assert lower == [snapshotter.graph_data(init)["UpperDir"], data["UpperDir"]]
    assert Path(data["UpperDir"]).parts[:-2] == (tmp_path / "overlay2").parts
    store.close()


def test_old_kernels_mount_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown_option(*_: object) -> int:
        raise OSError(errno.EINVAL, "fsconfig: Invalid argument")

    monkeypatch.setattr(detached, "_by_context", unknown_option)
    namespace = os.readlink("/proc/thread-self/ns/mnt")
    for name in ("one", "two", "upper", "work", "place"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/f").write_bytes(b"1")
    (tmp_path / "two/g").write_bytes(b"2")
    (tmp_path / "two/link").symlink_to("/../f")
    lower = [str(tmp_path / "one"), str(tmp_path / "two")]
    for upper, work in ((None, None), (str(tmp_path / "upper"), str(tmp_path / "work"))):
        with tree.opened(detached.overlay(lower, str(tmp_path / "place"), upper, work)) as tree_fd:
            assert mounts_below(tmp_path) == 0
            with tree.opened(os.open(".", tree.DIRECTORY, dir_fd=tree_fd)) as root_fd:
                assert {"f", "g"} <= set(os.listdir(root_fd))
                with open(fs.openat2(root_fd, "link", os.O_RDONLY, resolve=fs.RESOLVE_IN_ROOT)) as file:
                    assert file.read() == "1"
    assert mounts_below(tmp_path) == 0
    assert os.readlink("/proc/thread-self/ns/mnt") == namespace


@pytest.mark.row("IMG-04")
def test_the_driver_is_chosen_by_what_works_and_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"))
    for driver in ("aufs", "devicemapper", "overlay", "nonsense"):
        with pytest.raises(SystemFailure, match="driver not supported"):
            open_snapshotter(str(tmp_path), store, driver)
    assert open_snapshotter(str(tmp_path), store, "vfs").name == "vfs"
    assert open_snapshotter(str(tmp_path), store).name == "vfs"
    assert open_snapshotter(str(tmp_path), store, "overlay2").name == "overlay2"
    assert open_snapshotter(str(tmp_path), store).name == "overlay2"
    assert not list(tmp_path.glob("check-overlay-*"))
    store.close()
