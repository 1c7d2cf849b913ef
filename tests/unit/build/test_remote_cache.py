"""Caches of strangers: what they may hold, and what comes of those that lie."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxship.base.errors import BoxshipError
from boxship.build.caching import keys
from boxship.build.caching.cache import Record
from boxship.build.files import Archive
from boxship.build.graph import Run
from boxship.build.remote_cache import archives
from boxship.build.remote_cache.exports import of_mode
from boxship.build.remote_cache.offer import Offer, of_document
from boxship.build.remote_cache.sources import LayoutSource
from boxship.snapshots import tree
from boxship.spec.boxship.build_cache import ARCHIVE, CONFIG, CacheImport, check, read
from boxship.spec.oci import Descriptor
from boxship.spec.oci.manifest import OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST

DIFF_ID = f"sha256:{'1' * 64}"
BLOB = Descriptor(media_type=OCI_LAYER_GZIP, digest=f"sha256:{'2' * 64}", size=10)
KEY = keys.key(Run(args=("make",)), "sha256:base", "linux/amd64")


def _entry(**fields: Any) -> dict[str, Any]:
    return {"kind": KEY.kind, "platform": KEY.platform, "inputs": KEY.inputs, "layer": 0, "created_ns": 5, **fields}


def _document(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"version": 1, "diff_ids": [DIFF_ID], "entries": list(entries or (_entry(),)), **fields}


def _offer(document: dict[str, Any], *blobs: Descriptor) -> Offer:
    parsed = read(json.dumps(document).encode())
    return of_document(parsed, blobs or (BLOB,), parsed.diff_ids)


def test_a_result_is_found_by_the_key_that_its_inputs_give() -> None:
    found = _offer(_document(_entry(description="RUN make")))

    assert list(found.results) == [KEY.digest]
    assert found.results[KEY.digest] == (DIFF_ID, BLOB, 5, "RUN make")


def test_a_result_that_lies_about_its_inputs_is_found_by_nobody_who_has_others() -> None:
    lie = _entry(inputs={**KEY.inputs, "command": "0" * 64})

    assert KEY.digest not in _offer(_document(lie)).results


def test_what_a_stranger_says_cannot_move_the_cursor() -> None:
    found = _offer(_document(_entry(description="a\x1b[2J\nb\x9b31m" + "c" * 5000)))

    assert found.results[KEY.digest].description == ("a [2J b 31m" + "c" * 5000)[:1000]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"version": 2, "entries": []},
        {"entries": []},
        {"version": 1},
        _document(_entry(layer=1)),
        _document(_entry(layer=-2)),
        _document(_entry(layer=1 << 70)),
        _document(_entry(created_ns=-1)),
        _document(_entry(created_ns=1 << 62)),
        _document(_entry(inputs={str(number): "" for number in range(300)})),
        _document(_entry(inputs={"a": 1})),
        _document(diff_ids=["sha256:short"]),
        _document(diff_ids=[]),
        _document(diff_ids=[""]),
        _document(diff_ids=[DIFF_ID, DIFF_ID]),
        _document(mounts=[{"name": "m", "layer": 3}]),
        _document(mounts=[{"name": "m", "layer": -1}]),
        _document(mounts=[{"name": "m", "layer": 0}]),  # a layer is no archive of a mount
        _document(mounts=[{"name": "m" * 5000, "layer": 0}]),
        _document(mounts=[{"name": "m", "layer": 0}] * 101),
        _document(*([_entry(inputs={})] * 10_001)),
    ],
)
def test_a_document_with_impossible_values_is_refused(document: Any) -> None:
    with pytest.raises(BoxshipError, match="invalid build cache"):
        _offer(document)


def test_a_layer_of_another_type_is_refused() -> None:
    with pytest.raises(BoxshipError, match="unexpected media type"):
        _offer(_document(), Descriptor(media_type="text/plain", digest=BLOB.digest, size=1))


def test_the_cache_in_an_image_may_not_name_mounts() -> None:
    document = check(_document(mounts=[{"name": "m", "layer": 0}]))

    with pytest.raises(BoxshipError, match="a mount names an archive"):
        of_document(document, None, [DIFF_ID])


def test_the_smaller_mode_takes_what_the_result_stands_on() -> None:
    def record(*layers: str) -> Record:
        return Record(subject="", inputs={}, layers=layers, added=True, created_ns=0)

    records = {"a": record("1"), "b": record("1", "2"), "c": record("1", "3"), "d": record("9")}

    assert list(of_mode("min", records, ("1", "2"))) == ["a", "b"]
    assert list(of_mode("max", records, ("1", "2"))) == ["a", "b", "c", "d"]


# layouts


class Layout:
    """An OCI layout that is put together in memory and read as the files of a context."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def blob(self, data: bytes, media_type: str = "") -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def manifest(self, config: bytes, *layers: dict[str, Any]) -> dict[str, Any]:
        described = self.blob(config, CONFIG)
        return self.blob(
            json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers}).encode(),
            OCI_MANIFEST,
        )

    def index(self, *manifests: dict[str, Any]) -> bytes:
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()

    def tagged(self, manifest: dict[str, Any]) -> None:
        annotated = {**manifest, "annotations": {"org.opencontainers.image.ref.name": "latest"}}
        self.files["index.json"] = self.index(annotated)


def _read(layout: Layout, directory: Path, **wanted: Any) -> Offer:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in layout.files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    buffer.seek(0)
    archive = Archive(str(directory))
    try:
        archive.fill(buffer)
        source = LayoutSource(archive, CacheImport(type="local", directory="x", **wanted))
        return asyncio.run(source.offer())
    finally:
        archive.close()


CACHE = json.dumps(_document()).encode()
LAYER = {"mediaType": OCI_LAYER_GZIP, "digest": BLOB.digest, "size": BLOB.size}


def test_a_layout_is_read_by_tag_and_by_digest(tmp_path: Path) -> None:
    layout = Layout()
    manifest = layout.manifest(CACHE, LAYER)
    layout.tagged(layout.blob(layout.index(manifest), OCI_INDEX))

    assert KEY.digest in _read(layout, tmp_path).results
    assert KEY.digest in _read(layout, tmp_path, digest=manifest["digest"]).results


def _nothing(layout: Layout) -> None:
    del layout


def _other_tag(layout: Layout) -> None:
    layout.files["index.json"] = layout.index(layout.manifest(CACHE, LAYER))


def _other_bytes(layout: Layout) -> None:
    manifest = layout.manifest(CACHE, LAYER)
    layout.tagged(manifest)
    layout.files[f"blobs/sha256/{manifest['digest'][7:]}"] += b" "


def _other_config(layout: Layout) -> None:
    layout.tagged(layout.manifest(CACHE, LAYER))
    layout.files[f"blobs/sha256/{hashlib.sha256(CACHE).hexdigest()}"] = CACHE.replace(b"5", b"6")


def _deep(layout: Layout) -> None:
    inner = layout.manifest(CACHE, LAYER)
    for _ in range(5):
        inner = layout.blob(layout.index(inner), OCI_INDEX)
    layout.tagged(inner)


def _outside(layout: Layout) -> None:
    layout.tagged({"mediaType": OCI_MANIFEST, "digest": "sha256:../../../etc/passwd", "size": 1})


def _huge(layout: Layout) -> None:
    layout.tagged(layout.manifest(b" " * (5 * 1024 * 1024) + CACHE, LAYER))


def _no_cache(layout: Layout) -> None:
    layout.tagged(layout.manifest(b"[[" * 100_000, LAYER))


def _more_layers(layout: Layout) -> None:
    layout.tagged(layout.manifest(CACHE, LAYER, LAYER))


@pytest.mark.parametrize(
    "make",
    [_nothing, _other_tag, _other_bytes, _other_config, _deep, _outside, _huge, _no_cache, _more_layers],
    ids=lambda make: make.__name__.strip("_"),
)
def test_a_layout_that_is_none_is_an_error_and_no_more(make: Callable[[Layout], None], tmp_path: Path) -> None:
    layout = Layout()
    make(layout)

    with pytest.raises(BoxshipError):
        _read(layout, tmp_path)


# archives of cache mounts


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    directory = tmp_path / "mount"
    directory.mkdir()
    with tree.opened(tree.open_root(str(directory))) as fd:
        yield directory, fd


def test_files_of_a_mount_come_back_as_they_were(empty: tuple[Path, int], tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/.wh.file").write_text("no whiteout")
    os.link(source / "d/.wh.file", source / "second")
    (source / "link").symlink_to("/etc/passwd")
    (source / "d").chmod(0o750)
    attributes = {"user.note": b"\0 1"}
    try:
        os.setxattr(source / "d", "user.note", attributes["user.note"])
    except OSError:
        attributes = {}  # this filesystem has none
    os.utime(source / "second", ns=(1, 1_234_567_891_123_456_789))
    packed = io.BytesIO()
    with tree.opened(tree.open_root(str(source))) as fd:
        archives.pack(fd, packed, None)
    packed.seek(0)

    archives.unpack(packed, empty[1], None)

    found = empty[0]
    assert (found / "d/.wh.file").read_text() == "no whiteout"
    assert (found / "second").stat().st_mtime_ns == 1_234_567_891_123_456_789
    assert (found / "second").stat().st_ino == (found / "d/.wh.file").stat().st_ino
    assert {name: os.getxattr(found / "d", name) for name in os.listxattr(found / "d")} == attributes
    assert os.readlink(found / "link") == "/etc/passwd" and oct((found / "d").stat().st_mode) == "0o40750"


def test_an_archive_of_a_mount_stays_inside(empty: tuple[Path, int], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        tar.addfile(link)
        for name in ("../outside", "out/outside", "/outside"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))

    archives.unpack(io.BytesIO(gzip.compress(buffer.getvalue())), empty[1], None)

    assert not (tmp_path / "outside").exists()
    assert (empty[0] / "outside").read_text() == "x"


@pytest.mark.parametrize("data", [b"", b"text" * 1000, gzip.compress(b"text" * 1000), gzip.compress(bytes(100))[:-9]])
def test_an_archive_of_a_mount_that_is_none_is_an_error_or_empty(empty: tuple[Path, int], data: bytes) -> None:
    try:
        archives.unpack(io.BytesIO(data), empty[1], None)
    except BoxshipError:
        pass

    assert list(empty[0].iterdir()) == []
    assert ARCHIVE.endswith("tar+gzip")
