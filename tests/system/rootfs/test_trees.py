"""The files of a stopped container with its mounts in place, as newer and as older kernels let them be put together."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from boxship.engine.model import ResolvedMount
from boxship.engine.processes.launcher import Launcher
from boxship.engine.rootfs import trees
from boxship.linux import fs
from boxship.snapshots import OverlaySnapshotter
from boxship.store import Store

pytestmark = pytest.mark.system


@pytest.fixture(params=["this kernel", "before 6.15"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "before 6.15":

        def attach(*_: object) -> None:
            raise trees.TooOld

        monkeypatch.setattr(trees, "attach", attach)
    return request.param


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
def test_a_stopped_containers_mounts_are_in_their_places(tmp_path: Path, writable: bool) -> None:
    volume, inner, hosts = tmp_path / "volume", tmp_path / "inner", tmp_path / "hosts"
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
        store = Store(str(tmp_path / "boxship.db"))
        snapshotter = OverlaySnapshotter(str(tmp_path / "overlay2"), store)
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
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
