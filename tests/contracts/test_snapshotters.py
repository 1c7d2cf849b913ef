"""What every snapshotter does; a new one passes by subclassing."""

import hashlib
import io
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxship.base.identity import IdentityMapping
from boxship.snapshots import (
    Change,
    ChangeKind,
    HasChildren,
    InvalidTar,
    NoSuchSnapshot,
    OverlaySnapshotter,
    SnapshotExists,
    Snapshotter,
    UnexpectedEnd,
    VfsSnapshotter,
    WrongState,
)
from boxship.snapshots import tree as trees
from boxship.snapshots.btrfs import BtrfsSnapshotter
from boxship.store import Store
from harness.loop import filesystem

pytestmark = pytest.mark.system

MAPPING = IdentityMapping([(0, 300_000, 65_536)], [(0, 400_000, 65_536)])
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service, version 2


def tar(*members: tuple[str, object]) -> io.BytesIO:
    """Return an archive. A member is (name ending in "/", None), (name, bytes), (name, TarInfo fields)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, what in members:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode, data = 1_600_000_000, 0o644, b""
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            if isinstance(what, bytes):
                data = what
            elif isinstance(what, dict):
                data = what.pop("data", b"")
                for field, value in what.items():
                    setattr(info, field, value)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    out.seek(0)
    return out


def link(target: str, type: bytes = tarfile.SYMTYPE) -> dict[str, object]:
    return {"type": type, "linkname": target}


def portable(value: bytes) -> bytes:
    """Return a file capability without the root user that it counts for; other values as they are."""
    if len(value) == len(CAPABILITY) + 4 and value[4:-4] == CAPABILITY[4:]:
        assert value[3:4] + value[-4:] == b"\x03" + MAPPING.root[0].to_bytes(4, "little")
        return CAPABILITY
    return value


def tree(root_fd: int) -> dict[str, tuple[object, ...]]:
    """Return all that a layer can say about each file."""
    found: dict[str, tuple[object, ...]] = {}
    names: dict[int, str] = {}
    for path, parent_fd, status in trees.walk(root_fd):
        name = path.rpartition("/")[2]
        content: object = None
        if stat.S_ISREG(status.st_mode):
            fd = os.open(name, os.O_RDONLY, dir_fd=parent_fd)
            with os.fdopen(fd, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(name, dir_fd=parent_fd)
        elif not stat.S_ISDIR(status.st_mode):
            content = status.st_rdev
        attributes = {k: v for k, v in trees.xattrs(parent_fd, name).items() if not k.startswith("trusted.")}
        first = names.setdefault(status.st_ino, path)
        owner = MAPPING.to_container(status.st_uid, status.st_gid)  # what is not mapped is left as it is
        attributes = {key: portable(value) for key, value in attributes.items()}
        found[path] = (stat.filemode(status.st_mode), *owner, content, attributes, first)
    return found


def unpacked(snapshotter: Snapshotter, key: str) -> dict[str, tuple[object, ...]]:
    with snapshotter.view(key) as root_fd:
        return tree(root_fd)


def layer(snapshotter: Snapshotter, name: str, parent: str | None, *members: tuple[str, object]) -> str:
    key = f"extract-{name}"
    snapshotter.prepare(key, parent)
    applied = snapshotter.apply(key, tar(*members))
    snapshotter.commit(name, key, diff_id=applied.diff_id, size=applied.size)
    return name


def write(root_fd: int, path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=root_fd)
    os.write(fd, data)
    os.close(fd)


def sentinel(directory: Path) -> str:
    """Return a digest of a whole tree: names, contents, owners, modes, times."""
    hash = hashlib.sha256()
    for path in sorted([directory, *directory.rglob("*")]):
        status = path.lstat()
        hash.update(f"{path} {status.st_mode} {status.st_uid} {status.st_gid} {status.st_mtime_ns}".encode())
        hash.update(f"{status.st_nlink} {status.st_ino} {sorted(os.listxattr(path, follow_symlinks=False))}".encode())
        if path.is_file():
            hash.update(path.read_bytes())
    return hash.hexdigest()


class SnapshotterContract:
    """Behaviour every snapshotter shares; the words are in ``boxship.snapshots.snapshotter``."""

    # life

    def test_committed_snapshot_becomes_a_parent(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("k1", None)
        snapshotter.commit("base", "k1")
        snapshotter.prepare("k2", "base")
        assert snapshotter.parent("k2") == "base"
        assert snapshotter.parent("base") is None
        assert not snapshotter.exists("k1")
        assert [info.key for info in snapshotter.list()] == ["base", "k2"]
        assert [info.committed for info in snapshotter.list()] == [True, False]

    def test_prepare_refuses_an_unknown_parent(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(NoSuchSnapshot):
            snapshotter.prepare("k", "unknown")
        assert snapshotter.list() == []

    def test_prepare_refuses_an_active_parent(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("k1", None)
        with pytest.raises(WrongState):
            snapshotter.prepare("k2", "k1")

    def test_prepare_refuses_a_taken_key(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("k", None)
        with pytest.raises(SnapshotExists):
            snapshotter.prepare("k", None)

    def test_commit_refuses_a_taken_name_and_leaves_the_key_active(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None)
        snapshotter.prepare("k", None)
        with pytest.raises(SnapshotExists):
            snapshotter.commit("base", "k")
        snapshotter.commit("other", "k")

    def test_a_committed_snapshot_cannot_be_committed_or_written(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None)
        with pytest.raises(WrongState):
            snapshotter.commit("again", "base")
        with pytest.raises(WrongState):
            snapshotter.apply("base", tar())
        with pytest.raises(WrongState):
            snapshotter.rootfs("base")
        with pytest.raises(WrongState), snapshotter.view("base", writable=True):
            pass

    def test_remove_refuses_a_parent_and_then_leaves_no_directory(self, snapshotter: Snapshotter, root: Path) -> None:
        layer(snapshotter, "base", None, ("f", b"1"))
        snapshotter.prepare("k", "base")
        with pytest.raises(HasChildren):
            snapshotter.remove("base")
        snapshotter.remove("k")
        snapshotter.remove("base")
        assert snapshotter.list() == []
        assert [path for path in root.rglob("*") if len(path.name) == 64] == []
        with pytest.raises(NoSuchSnapshot):
            snapshotter.remove("base")

    def test_info_tells_diff_id_size_and_directory(self, snapshotter: Snapshotter) -> None:
        archive = tar(("f", b"12345"))
        layer(snapshotter, "base", None, ("f", b"12345"))
        (info,) = snapshotter.list()
        assert info.diff_id == f"sha256:{hashlib.sha256(archive.getvalue()).hexdigest()}"
        assert info.size == 5
        assert Path(info.path).is_dir()

    # layers

    @pytest.mark.row("IMG-01")
    @pytest.mark.row("IMG-22")
    def test_layers_are_seen_as_one_tree(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("d/", None), ("d/one", b"1"), ("d/both", b"lower"))
        layer(snapshotter, "b", "a", ("d/", None), ("d/two", b"2"), ("d/both", b"upper"))
        seen = unpacked(snapshotter, "b")
        assert sorted(seen) == ["d", "d/both", "d/one", "d/two"]
        assert seen["d/both"][3] == hashlib.sha256(b"upper").hexdigest()
        assert unpacked(snapshotter, "a")["d/both"][3] == hashlib.sha256(b"lower").hexdigest()

    def test_everything_a_layer_can_say_is_unpacked(self, snapshotter: Snapshotter) -> None:
        layer(
            snapshotter,
            "base",
            None,
            ("setuid", {"mode": 0o4755, "uid": 1000, "gid": 100, "data": b"x"}),
            ("sticky/", {"mode": 0o1777, "uid": 3}),
            ("hard", link("setuid", tarfile.LNKTYPE)),
            ("soft", {**link("/etc/../setuid"), "uid": 5, "gid": 6}),
            ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666}),
            ("disk", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 1, "mode": 0o600}),
            ("pipe", {"type": tarfile.FIFOTYPE, "mode": 0o622}),
            ("cap", {"pax_headers": {"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}}),
        )
        seen = unpacked(snapshotter, "base")
        assert seen["setuid"][:3] == ("-rwsr-xr-x", 1000, 100)
        assert seen["sticky"][:3] == ("drwxrwxrwt", 3, 0)
        assert seen["hard"] == seen["setuid"]
        assert seen["soft"][:4] == ("lrwxrwxrwx", 5, 6, "/etc/../setuid")
        assert (seen["null"][0], seen["null"][3]) == ("crw-rw-rw-", os.makedev(1, 3))
        assert (seen["disk"][0], seen["disk"][3]) == ("brw-------", os.makedev(8, 1))
        assert seen["pipe"][0] == "prw--w--w-"

    def test_times_are_kept_to_the_nanosecond(self, snapshotter: Snapshotter) -> None:
        times = {"pax_headers": {"mtime": "1234567890.123456789"}}
        layer(snapshotter, "base", None, ("d/", dict(times)), ("d/f", dict(times)), ("d/l", {**link("f"), **times}))
        with snapshotter.view("base") as fd:
            for name in ("d", "d/f", "d/l"):
                assert os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns == 1234567890123456789

    @pytest.mark.row("IMG-03")
    def test_whiteouts_hide_files_of_lower_layers(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("d/", None), ("d/gone", b""), ("d/kept", b""), ("dir/", None), ("dir/x", b""))
        layer(snapshotter, "b", "a", ("d/.wh.gone", b""), (".wh.dir", b""))
        assert sorted(unpacked(snapshotter, "b")) == ["d", "d/kept"]
        assert sorted(unpacked(snapshotter, "a")) == ["d", "d/gone", "d/kept", "dir", "dir/x"]

    @pytest.mark.row("IMG-03")
    @pytest.mark.parametrize("marker_first", [True, False])
    def test_an_opaque_directory_hides_all_that_was_in_it(self, snapshotter: Snapshotter, marker_first: bool) -> None:
        layer(snapshotter, "a", None, ("d/", None), ("d/old", b""), ("d/sub/", None), ("d/sub/x", b""))
        members: list[tuple[str, object]] = [
            ("d/.wh..wh..opq", b""),
            ("d/new", b""),
            ("d/sub/", None),
            ("d/sub/y", b""),
        ]
        if not marker_first:
            members = members[1:] + members[:1]
        layer(snapshotter, "b", "a", ("d/", None), *members)
        assert sorted(unpacked(snapshotter, "b")) == ["d", "d/new", "d/sub", "d/sub/y"]

    def test_an_opaque_root_hides_all_lower_layers(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("d/", None), ("d/old", b""), ("f", b"old"), ("gone", b""))
        layer(snapshotter, "b", "a", (".wh..wh..opq", b""), ("d/", None), ("d/new", b""), ("f", b"new"))
        assert sorted(unpacked(snapshotter, "b")) == ["d", "d/new", "f"]

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
    def test_a_directory_in_place_of_a_whiteout_shows_nothing_old(
        self, snapshotter: Snapshotter, order: tuple[int, ...]
    ) -> None:
        layer(snapshotter, "a", None, ("d/", None), ("d/old", b""))
        members: list[tuple[str, object]] = [(".wh.d", b""), ("d/", None), ("d/new", b"")]
        layer(snapshotter, "b", "a", *[members[n] for n in order])
        assert sorted(unpacked(snapshotter, "b")) == ["d", "d/new"]

    def test_a_whiteout_spares_what_its_own_layer_brings(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("f", b"old"))
        layer(snapshotter, "b", "a", ("f", b"new"), (".wh.f", b""))
        assert unpacked(snapshotter, "b")["f"][3] == hashlib.sha256(b"new").hexdigest()

    @pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh...", "d/.wh.."])
    def test_whiteouts_of_no_name_are_refused(self, snapshotter: Snapshotter, name: str) -> None:
        layer(snapshotter, "a", None, ("d/", None))
        snapshotter.prepare("k", "a")
        with pytest.raises(InvalidTar, match="invalid whiteout name"):
            snapshotter.apply("k", tar((name, b"")))
        assert sorted(unpacked(snapshotter, "k")) == ["d"]

    def test_aufs_metadata_is_ignored(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, (".wh..wh.aufs", b""), (".wh..wh.plnk/", None), ("f", b""))
        assert sorted(unpacked(snapshotter, "a")) == ["f"]

    @pytest.mark.parametrize("first", ["file", "directory", "symlink", "fifo"])
    @pytest.mark.parametrize("second", ["file", "directory", "symlink", "fifo"])
    def test_the_last_of_several_entries_with_one_name_counts(
        self, snapshotter: Snapshotter, first: str, second: str
    ) -> None:
        def member(kind: str) -> tuple[str, object]:
            return {
                "file": ("x", b"data"),
                "directory": ("x/", None),
                "symlink": ("x", link("/nowhere")),
                "fifo": ("x", {"type": tarfile.FIFOTYPE}),
            }[kind]

        layer(snapshotter, "a", None, member(first), member(second))
        expected = {"file": "-", "directory": "d", "symlink": "l", "fifo": "p"}[second]
        assert str(unpacked(snapshotter, "a")["x"][0])[0] == expected

    def test_a_lower_file_becomes_a_directory_and_back(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("x", b"file"), ("y/", None), ("y/z", b""))
        layer(snapshotter, "b", "a", ("x/", None), ("x/new", b""), ("y", b"file"))
        seen = unpacked(snapshotter, "b")
        assert sorted(seen) == ["x", "x/new", "y"]

    def test_a_directory_the_layer_does_not_hold_keeps_the_parents_attributes(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("d/", {"mode": 0o1770, "uid": 7, "gid": 8}))
        layer(snapshotter, "b", "a", ("d/f", b""), ("new/sub/f", b""))
        seen = unpacked(snapshotter, "b")
        assert seen["d"][:3] == ("drwxrwx--T", 7, 8)
        assert seen["new"][:3] == seen["new/sub"][:3] == ("drwxr-xr-x", 0, 0)

    def test_the_root_directory_is_open_to_all_whatever_the_layer_says(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("./", {"mode": 0o700, "uid": 12}), ("f", b""))
        with snapshotter.view("a") as fd:
            assert os.fstat(fd).st_mode & 0o7777 == 0o755
            assert MAPPING.to_container(os.fstat(fd).st_uid, os.fstat(fd).st_gid) == (0, 0)

    def test_a_layer_is_applied_before_its_parent_is_there(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("d/", None), ("d/gone", b""), ("d/kept", b""), ("o/", None), ("o/old", b""))
        members = (("d/", None), ("d/.wh.gone", b""), ("d/new", b"x"), ("o/", None), ("o/.wh..wh..opq", b""))
        snapshotter.prepare("k", None)
        applied = snapshotter.apply("k", tar(*members))
        assert applied.assumed == ([] if snapshotter.adopts else None)
        if not snapshotter.adopts:
            with pytest.raises(WrongState):
                snapshotter.adopt("k", "a")
            return
        with pytest.raises(NoSuchSnapshot):
            snapshotter.adopt("k", "nothing")
        snapshotter.adopt("k", "a")
        assert snapshotter.parent("k") == "a"
        snapshotter.commit("b", "k")
        layer(snapshotter, "other", "a", *members)
        assert unpacked(snapshotter, "b") == unpacked(snapshotter, "other")
        assert sorted(unpacked(snapshotter, "b")) == ["d", "d/kept", "d/new", "o"]
        with pytest.raises(WrongState):
            snapshotter.adopt("b", "a")

    @pytest.mark.parametrize(
        "below",
        [
            (("d/", {"mode": 0o1770, "uid": 7}),),
            (("d/", {"mode": 0o1770, "uid": 7}), ("d/sub/", {"mode": 0o700})),
            (("d", b"a file"),),
        ],
    )
    @pytest.mark.parametrize("member", ["d/f", "d/sub/f", "d/.wh.f"])
    def test_a_layer_that_does_not_hold_its_directories_fits_where_they_are_new(
        self, snapshotter: Snapshotter, member: str, below: tuple[tuple[str, object], ...]
    ) -> None:
        if not snapshotter.adopts:
            pytest.skip("layers wait for their parents")
        layer(snapshotter, "other", None, ("e/", None))
        layer(snapshotter, "a", "other", *below)
        snapshotter.prepare("k", None)
        assumed = snapshotter.apply("k", tar((member, b""))).assumed
        assert assumed
        assert not snapshotter.adopt("k", "a", assumed)
        assert snapshotter.parent("k") is None
        assert snapshotter.adopt("k", "other", assumed)
        snapshotter.commit("b", "k")
        layer(snapshotter, "same", "other", (member, b""))
        assert unpacked(snapshotter, "b") == unpacked(snapshotter, "same")

    def test_a_layer_that_hides_all_below_needs_to_know_its_parent(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("k", None)
        assert snapshotter.apply("k", tar((".wh..wh..opq", b""))).assumed is None

    @pytest.mark.row("IMG-12")
    def test_deleting_in_a_later_layer_frees_nothing(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("big", b"x" * 100_000))
        layer(snapshotter, "b", "a", (".wh.big", b""))
        assert sum(info.size for info in snapshotter.list()) >= 100_000

    # hostile layers

    @pytest.mark.parametrize(
        "members",
        [
            [("../out/f", b"x")],
            [("/../../out/f", b"x")],
            [("a/../../../out/f", b"x")],
            [("l", link("{out}")), ("l/f", b"x")],
            [("l", link("../../../../../../../../../../{out}")), ("l/f", b"x"), ("l/d/", None)],
            [("l", link("{out}")), ("l/", {"mode": 0o777, "uid": 1})],
            [("l", link("{out}/kept")), ("l", b"overwritten")],
            [("h", link("{out}/kept", tarfile.LNKTYPE)), ("h", b"overwritten")],
            [("h", link("../../../../../../../../{out}/kept", tarfile.LNKTYPE))],
            [("l", link("{out}")), ("h", link("l/kept", tarfile.LNKTYPE))],
            [("l", link("{out}")), ("l/.wh.kept", b"")],
            [("l", link("{out}")), ("l/.wh..wh..opq", b"")],
            [("d/", None), ("d/x", b""), ("d", link("{out}")), ("d/x", b"overwritten")],
            [("d/", None), ("d/e/", None), ("d/e", link("{out}")), ("d/e/kept", link("/", tarfile.SYMTYPE))],
            [("p", link("/proc/self/root{out}")), ("p/f", b"x")],
            [("l", link("{out}/kept")), ("l", {"type": tarfile.CHRTYPE, "mode": 0o777})],
        ],
    )
    @pytest.mark.row("IMG-24")
    def test_c6_i2_nothing_outside_the_snapshot_changes(
        self, snapshotter: Snapshotter, tmp_path: Path, members: list[tuple[str, object]]
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "kept").write_bytes(b"kept")
        (out / "directory").mkdir()
        before = sentinel(out)
        filled = [
            (name, {k: v.format(out=out) if k == "linkname" else v for k, v in what.items()})
            if isinstance(what, dict)
            else (name, what)
            for name, what in members
        ]
        snapshotter.prepare("k", None)
        try:
            snapshotter.apply("k", tar(*filled))
        except InvalidTar:
            pass
        assert sentinel(out) == before
        with snapshotter.view("k") as fd:
            for _, parent_fd, status in trees.walk(fd):
                assert status.st_ino != (out / "kept").stat().st_ino or status.st_dev != os.fstat(parent_fd).st_dev

    def test_trusted_attributes_of_a_layer_are_left_out(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("d/", None), ("d/seen", b""))
        headers = {
            f"SCHILY.xattr.{name}": "y"
            for name in ("trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "user.kept")
        }
        layer(snapshotter, "b", "a", ("d/", {"pax_headers": headers}))
        seen = unpacked(snapshotter, "b")
        assert sorted(seen) == ["d", "d/seen"]
        assert seen["d"][4] == {"user.kept": b"y"}

    @pytest.mark.parametrize("cut", [1, 511, 513, 1024, 1300, 2047])
    def test_a_truncated_stream_leaves_nothing(self, snapshotter: Snapshotter, cut: int) -> None:
        layer(snapshotter, "a", None, ("old", b""))
        snapshotter.prepare("k", "a")
        stream = io.BytesIO(tar(("a", b"x" * 600), ("b", b"y" * 600)).getvalue()[:cut])
        with pytest.raises(UnexpectedEnd, match=r"^unexpected EOF$"):
            snapshotter.apply("k", stream)
        assert sorted(unpacked(snapshotter, "k")) == ["old"]
        assert snapshotter.usage("k") == 0
        snapshotter.apply("k", tar(("a", b"1")))
        assert sorted(unpacked(snapshotter, "k")) == ["a", "old"]

    def test_a_stream_that_fails_leaves_nothing_and_raises_its_error(self, snapshotter: Snapshotter) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 0:
                    raise ConnectionResetError
                return super().read(1024)

        snapshotter.prepare("k", None)
        with pytest.raises(ConnectionResetError):
            snapshotter.apply("k", Failing(tar(("a", b"x" * 600), ("b", b"y")).getvalue()))
        assert unpacked(snapshotter, "k") == {}

    # writable layers

    @pytest.mark.row("IMG-02")
    @pytest.mark.row("IMG-03")
    def test_changes_tells_what_was_added_modified_and_deleted(self, snapshotter: Snapshotter) -> None:
        layer(
            snapshotter,
            "base",
            None,
            ("d/", None),
            ("d/f", b"1"),
            ("d/g", b"2"),
            ("e/", None),
            ("e/s/", None),
            ("e/s/x", b""),
        )
        snapshotter.prepare("k", "base")
        with snapshotter.view("k", writable=True) as fd:
            write(fd, "d/f", b"changed")
            os.unlink("d/g", dir_fd=fd)
            os.mkdir("new", dir_fd=fd)
            write(fd, "new/file", b"")
            os.unlink("e/s/x", dir_fd=fd)
            os.rmdir("e/s", dir_fd=fd)
        assert snapshotter.changes("k") == [
            Change("/d", ChangeKind.MODIFIED),
            Change("/d/f", ChangeKind.MODIFIED),
            Change("/d/g", ChangeKind.DELETED),
            Change("/e", ChangeKind.MODIFIED),
            Change("/e/s", ChangeKind.DELETED),
            Change("/new", ChangeKind.ADDED),
            Change("/new/file", ChangeKind.ADDED),
        ]
        assert sorted(unpacked(snapshotter, "base")) == ["d", "d/f", "d/g", "e", "e/s", "e/s/x"]

    def test_a_replaced_directory_tells_what_it_lost(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None, ("d/", None), ("d/old", b""), ("d/stays", b""))
        snapshotter.prepare("k", "base")
        with snapshotter.view("k", writable=True) as fd:
            for name in ("d/old", "d/stays"):
                os.unlink(name, dir_fd=fd)
            os.rmdir("d", dir_fd=fd)
            os.mkdir("d", dir_fd=fd)
            write(fd, "d/stays", b"again")
        assert Change("/d/old", ChangeKind.DELETED) in snapshotter.changes("k")
        assert Change("/d/stays", ChangeKind.MODIFIED) in snapshotter.changes("k")

    def test_an_untouched_snapshot_has_no_changes(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None, ("d/", None), ("d/f", b"1"))
        snapshotter.prepare("k", "base")
        assert snapshotter.changes("k") == []
        assert snapshotter.usage("k") == 0

    @pytest.mark.row("IMG-02")
    def test_a_written_difference_makes_the_same_tree_again(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None, ("d/", None), ("d/f", b"1"), ("d/g", b"2"), ("e/", None), ("e/x", b""))
        snapshotter.prepare("k", "base")
        with snapshotter.view("k", writable=True) as fd:
            write(fd, "d/f", b"changed" * 1000)
            os.chown("d/f", 10, 20, dir_fd=fd)
            os.setxattr(f"/proc/self/fd/{fd}/d/f", "user.note", b"n")
            os.setxattr(f"/proc/self/fd/{fd}/d/f", "security.capability", CAPABILITY)
            os.link("d/f", "hard", src_dir_fd=fd, dst_dir_fd=fd)
            os.unlink("d/g", dir_fd=fd)
            os.unlink("e/x", dir_fd=fd)
            os.rmdir("e", dir_fd=fd)
            os.mkdir("e", dir_fd=fd)
            write(fd, "e/y", b"")
            os.symlink("x" * 150, "long", dir_fd=fd)
            os.mkfifo("pipe", dir_fd=fd)
            os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=fd)
            os.mkdir("d" * 200, dir_fd=fd)
            write(fd, "d" * 200 + "/" + "ü" * 100, b"x")
        first, second = io.BytesIO(), io.BytesIO()
        written = snapshotter.write_diff("k", first)
        assert snapshotter.write_diff("k", second) == written
        assert first.getvalue() == second.getvalue()
        assert written.diff_id == f"sha256:{hashlib.sha256(first.getvalue()).hexdigest()}"
        snapshotter.prepare("again", "base")
        first.seek(0)
        assert snapshotter.apply("again", first).diff_id == written.diff_id
        assert unpacked(snapshotter, "again") == unpacked(snapshotter, "k")

    def test_usage_counts_a_file_with_several_names_once(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("k", None)
        snapshotter.apply("k", tar(("a", b"x" * 1000), ("b", link("a", tarfile.LNKTYPE))))
        assert snapshotter.usage("k") == 1000

    @pytest.mark.parametrize("again", [False, True])
    def test_apply_tells_the_usage(self, snapshotter: Snapshotter, again: bool) -> None:
        members: list[tuple[str, object]] = [
            ("d/", None),
            ("d/f", b"x" * 700),
            ("l", link("ü" * 10)),
            ("h", link("d/f", tarfile.LNKTYPE)),
        ]
        snapshotter.prepare("k", None)
        assert snapshotter.apply("k", tar(*members, *([("d/f", b"y")] if again else []))).size == snapshotter.usage("k")

    def test_a_view_that_is_not_writable_refuses_writes(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "a", None, ("f", b""))
        layer(snapshotter, "b", "a", ("g", b""))
        for name in ("a", "b"):
            with snapshotter.view(name) as fd, pytest.raises(OSError, match="Read-only file system"):
                write(fd, "new", b"")

    # the init layer

    @pytest.mark.row("IMG-02")
    def test_the_init_layer_holds_what_mounts_cover(self, snapshotter: Snapshotter) -> None:
        layer(
            snapshotter,
            "base",
            None,
            ("etc/", None),
            ("etc/resolv.conf", link("../run/systemd/resolv.conf")),
            ("dev", link("/tmp")),
        )
        name = snapshotter.prepare_init("base")
        assert snapshotter.prepare_init("base") == name
        seen = unpacked(snapshotter, name)
        kinds = {path: str(what[0]) for path, what in seen.items()}
        assert kinds == {
            ".dockerenv": "-rwxr-xr-x",
            "dev": "drwxr-xr-x",
            "dev/console": "-rwxr-xr-x",
            "dev/pts": "drwxr-xr-x",
            "dev/shm": "drwxr-xr-x",
            "etc": "drwxr-xr-x",
            "etc/hostname": "-rwxr-xr-x",
            "etc/hosts": "-rwxr-xr-x",
            "etc/mtab": "lrwxrwxrwx",
            "etc/resolv.conf": "-rwxr-xr-x",
            "proc": "drwxr-xr-x",
            "sys": "drwxr-xr-x",
        }
        assert seen["etc/mtab"][3] == "/proc/mounts"
        snapshotter.prepare("container", name)
        assert snapshotter.changes("container") == []

    def test_an_init_layer_goes_with_its_parent_unless_it_is_used(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None)
        snapshotter.prepare("container", snapshotter.prepare_init("base"))
        with pytest.raises(HasChildren):
            snapshotter.remove("base")
        snapshotter.remove("container")
        snapshotter.remove("base")
        assert snapshotter.list() == []

    def test_an_init_layer_can_stand_on_nothing(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("container", snapshotter.prepare_init(None))
        assert ".dockerenv" in unpacked(snapshotter, "container")

    def test_many_threads_make_one_init_layer(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None)
        made: list[str] = []
        threads = [threading.Thread(target=lambda: made.append(snapshotter.prepare_init("base"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(made)) == 1 and len(made) == 6
        assert len(snapshotter.list()) == 2

    # after a crash

    def test_f1_cleanup_removes_what_was_half_made(self, snapshotter: Snapshotter, store: Store, root: Path) -> None:
        layer(snapshotter, "base", None, ("f", b"1"))
        snapshotter.prepare("container", "base")
        snapshotter.prepare("extract-1", None)
        snapshotter.apply("extract-1", tar(("f", b"2")))
        half_made = Path(snapshotter.list()[0].path).parent / ("ab" * 32)
        store.write_now(lambda t: t.own(str(half_made), "snapshot", "half"))
        half_made.mkdir()
        (half_made / "f").write_bytes(b"")
        unknown = half_made.parent / ("cd" * 32)
        unknown.mkdir()
        extraction = next(info.path for info in snapshotter.list() if info.key == "extract-1")
        cleaned = snapshotter.cleanup()
        assert sorted(cleaned.removed) == sorted([str(half_made), extraction])
        assert cleaned.unknown == [str(unknown)]
        assert (cleaned.unmounted, cleaned.lost) == ([], [])
        assert not half_made.exists()
        assert unknown.exists()
        assert [info.key for info in snapshotter.list()] == ["base", "container"]
        with store.read() as transaction:
            assert transaction.owner(str(half_made)) is None

    def test_f5_cleanup_tells_snapshots_without_a_directory(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None)
        shutil.rmtree(snapshotter.list()[0].path)
        assert snapshotter.cleanup().lost == ["base"]
        snapshotter.remove("base")

    def test_every_directory_has_an_owner(self, snapshotter: Snapshotter, store: Store) -> None:
        layer(snapshotter, "base", None)
        snapshotter.prepare("k", "base")
        with store.read() as transaction:
            for info in snapshotter.list():
                owner = transaction.owner(info.path)
                assert owner is not None
                assert (owner.kind, owner.id) == ("snapshot", info.key)

    def test_snapshots_are_there_after_a_restart(self, snapshotter: Snapshotter, store: Store) -> None:
        layer(snapshotter, "base", None, ("f", b"1"))
        again = type(snapshotter)(str(self.path_of(snapshotter)), store)
        assert "f" in unpacked(again, "base")

    # removal

    def test_a_very_deep_tree_is_removed(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare("k", None)
        with snapshotter.view("k", writable=True) as root_fd:
            fd = os.dup(root_fd)
            for _ in range(3000):
                os.mkdir("deeper", dir_fd=fd)
                below = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            write(fd, "bottom", b"")
            os.close(fd)
        snapshotter.usage("k")
        path = snapshotter.list()[0].path
        snapshotter.remove("k")
        assert not os.path.lexists(path)

    def test_immutable_files_are_removed(self, snapshotter: Snapshotter) -> None:
        import fcntl
        from array import array

        snapshotter.prepare("k", None)
        snapshotter.apply("k", tar(("d/", None), ("d/f", b"1")))
        path = Path(snapshotter.list()[0].path)
        for name in ("d/f", "d"):
            found = next(path.rglob(name))
            fd = os.open(found, os.O_RDONLY)
            try:
                fcntl.ioctl(fd, 0x40086602, array("i", [0x10]))
            except OSError:
                pytest.skip("this filesystem has no immutable flag")
            finally:
                os.close(fd)
        snapshotter.remove("k")
        assert not path.exists()

    def path_of(self, snapshotter: Snapshotter) -> Path:
        raise NotImplementedError

    def test_f2_an_active_snapshot_that_a_power_cut_took_is_made_anew(self, snapshotter: Snapshotter) -> None:
        layer(snapshotter, "base", None, ("file", b"content"))
        for key in ("taken", "running", "whole"):
            snapshotter.prepare(key, "base")
        with snapshotter.view("whole", writable=True) as root_fd:
            write(root_fd, "new", b"kept")
        for info in snapshotter.list():
            if info.key in ("taken", "running"):
                shutil.rmtree(info.path)
        cleaned = snapshotter.cleanup(mounted=["running"])
        assert (cleaned.remade, cleaned.lost, cleaned.unknown) == (["taken"], ["running"], [])
        assert unpacked(snapshotter, "taken") == unpacked(snapshotter, "base")
        assert "new" in unpacked(snapshotter, "whole")
        snapshotter.remove("taken")


class TestOverlay(SnapshotterContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "data"

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = Store(str(tmp_path / "db"))
        yield store
        store.close()

    @pytest.fixture
    def snapshotter(self, root: Path, store: Store) -> Snapshotter:
        return OverlaySnapshotter(str(root), store)

    def path_of(self, snapshotter: Snapshotter) -> Path:
        assert isinstance(snapshotter, OverlaySnapshotter)
        return Path(snapshotter.root)


class TestVfs(TestOverlay):
    @pytest.fixture
    def snapshotter(self, root: Path, store: Store) -> Snapshotter:
        return VfsSnapshotter(str(root), store)

    def path_of(self, snapshotter: Snapshotter) -> Path:
        assert isinstance(snapshotter, VfsSnapshotter)
        return Path(snapshotter.root).parent


@pytest.fixture(scope="module")
def btrfs() -> Iterator[Path]:
    with filesystem("mkfs.btrfs --quiet", "noatime") as directory:
        yield directory


class TestBtrfs(TestOverlay):
    @pytest.fixture
    def root(self, btrfs: Path) -> Path:
        root = btrfs / os.urandom(4).hex()
        root.mkdir()
        return root / "data"

    @pytest.fixture
    def snapshotter(self, root: Path, store: Store) -> Snapshotter:
        return BtrfsSnapshotter(str(root), store)

    def path_of(self, snapshotter: Snapshotter) -> Path:
        assert isinstance(snapshotter, BtrfsSnapshotter)
        return Path(snapshotter.root).parent


class TestRemappedOverlay(TestOverlay):
    """Containers have other ids than the host."""

    @pytest.fixture
    def snapshotter(self, root: Path, store: Store) -> Snapshotter:
        return OverlaySnapshotter(str(root), store, MAPPING)
