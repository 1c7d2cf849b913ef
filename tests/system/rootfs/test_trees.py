"""The files of a stopped container with its mounts in place, as newer and as older kernels let them be put together."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from boxship.engine.model import ResolvedMount
from boxship.engine.processes.launcher import Launcher
from boxship.engine.rootfs import trees
from boxship.linux import fs, mount
from boxship.snapshots import OverlaySnapshotter, Snapshotter, VfsSnapshotter, detached
from boxship.store import Store

pytestmark = pytest.mark.system


@pytest.fixture(params=["this kernel", "before 6.15", "before 6.5"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "this kernel":

        def attach(*_: object) -> None:
            raise trees.TooOld

        monkeypatch.setattr(trees, "attach", attach)
    if request.param == "before 6.5":

        def unknown_option(*_: object) -> int:
            raise OSError(errno.EINVAL, "fsconfig: Invalid argument")

        monkeypatch.setattr(detached, "_by_context", unknown_option)
    return request.param


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory in a mount that others share, as all of a host with systemd is."""
    place = tmp_path / "shared"
    place.mkdir()
    mount.mount(str(place), str(place), None, mount.MS_BIND)
    mount.mount(None, str(place), None, mount.MS_SHARED)
    yield place
    mount.umount2(str(place), mount.MNT_DETACH)


def mounts_below(path: Path) -> int:
    return Path("/proc/self/mountinfo").read_text().count(f" {path}/")


def layer() -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("etc/hosts", b"of the image"), ("etc/escape", b"")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if name == "etc/escape":
                entry.type, entry.linkname = tarfile.SYMTYPE, "/../../../../.."
            archive.addfile(entry, io.BytesIO(data))
    out.seek(0)
    return out


def read(root_fd: int, path: str) -> str:
    with open(fs.openat2(root_fd, path, os.O_RDONLY, resolve=fs.RESOLVE_IN_ROOT)) as file:
        return file.read()


def write(root_fd: int, path: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    with open(fs.openat2(root_fd, path, flags, mode=0o644, resolve=fs.RESOLVE_IN_ROOT), "w") as file:
        file.write(text)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("driver", [OverlaySnapshotter, VfsSnapshotter])
def test_a_stopped_containers_mounts_are_in_their_places_and_on_no_others(
    shared: Path, driver: type[OverlaySnapshotter | VfsSnapshotter], writable: bool
) -> None:
    volume, inner, hosts = shared / "volume", shared / "inner", shared / "hosts"
    volume.mkdir()
    inner.mkdir()
    (inner / "deep").write_text("deep")
    hosts.write_text("of the container")
    mounts = [
        ResolvedMount(type="volume", source=str(volume), target="/data"),
        ResolvedMount(type="bind", source=str(inner), target="/data/x/inner", read_only=True),
        ResolvedMount(type="bind", source=str(hosts), target="/etc/hosts"),
        ResolvedMount(type="bind", source=str(inner), target="/etc/escape/here"),
    ]
    namespace = os.readlink("/proc/self/ns/mnt")

    async def main() -> None:
        store = Store(str(shared / "boxship.db"))
        snapshotter: Snapshotter = driver(str(shared / driver.name), store)
        snapshotter.prepare("base", None)
        snapshotter.apply("base", layer())
        snapshotter.commit("image", "base")
        snapshotter.prepare("box", "image")
        launcher = Launcher()
        await launcher.start()
        loop = asyncio.get_running_loop()

        def assemble(root_fd, parts):  # type: ignore[no-untyped-def]
            return asyncio.run_coroutine_threadsafe(launcher.assemble(root_fd, parts), loop).result(10)

        def look() -> None:
            with ExitStack() as stack:
                root_fd = trees.open_stopped(
                    snapshotter, "box", mounts, writable=writable, stack=stack, assemble=assemble
                )
                assert read(root_fd, "etc/hosts") == "of the container"
                assert read(root_fd, "data/x/inner/deep") == "deep"
                assert read(root_fd, "here/deep") == "deep"  # the link out led to the container's own root
                with pytest.raises(OSError, match="Read-only"):
                    write(root_fd, "data/x/inner/new", "")
                write(root_fd, "data/new", "on the volume")
                assert mounts_below(shared) == 0
                if writable:
                    write(root_fd, "etc/new", "in the layer")
                else:
                    with pytest.raises(OSError, match="Read-only"):
                        write(root_fd, "etc/new", "")

        try:
            await asyncio.to_thread(look)
        finally:
            await launcher.close()
        with snapshotter.view("box") as root_fd:
            assert read(root_fd, "etc/hosts") == "of the image"
            if writable:
                assert read(root_fd, "etc/new") == "in the layer"
        store.close()

    asyncio.run(main())
    assert (volume / "new").read_text() == "on the volume"
    assert sorted(os.listdir(inner)) == ["deep"]
    assert os.readlink("/proc/self/ns/mnt") == namespace
    assert mounts_below(shared) == 0
