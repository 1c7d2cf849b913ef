"""Loading and saving archives: round trips, formats, and hostile ones."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable

import pytest
import zstandard

from boxship.base.errors import BoxshipError, NotFound
from boxship.images.model import NoSuchImage

pytestmark = pytest.mark.row("IMG-14")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LARGE = "x" * (4 << 20)  # a file that makes a layer too large for a document: it is unpacked while it arrives


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}


def blob(documents: dict[str, bytes], data: bytes, media_type: str, **more) -> dict[str, object]:
    documents["blobs/" + digest(data).replace(":", "/")] = data
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def layout(
    layer: bytes, *, media_type: str = LAYER, diff: bytes | None = None, name: str = "oci:1", **changes
) -> dict[str, bytes]:
    documents: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(diff or layer)]}}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(documents, config, CONFIG),
        "layers": [{**blob(documents, layer, media_type), **changes}],
    }
    entry = blob(documents, json.dumps(manifest).encode(), MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    documents["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return documents


# round trips


@pytest.mark.row("IMG-25")
def test_a_saved_image_comes_back_with_the_same_id_and_name(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1", b="2" * 3000), "user/app:v1", changes=["LABEL a=b"])
    saved = bench.save("user/app:v1")
    bench.remove("user/app:v1")
    assert bench.is_empty()
    assert bench.load(saved) == [{"stream": "Loaded image: user/app:v1\n"}]
    assert bench.service.resolve("user/app:v1").id == id
    assert bench.save("user/app:v1") == saved


def test_an_archive_holds_both_formats_and_all_that_they_name(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"), "app:1")
    found = members(bench.save("app:1"))
    (item,) = json.loads(found["manifest.json"])
    assert item["RepoTags"] == ["app:1"]
    assert digest(found[item["Config"]]) == id
    assert [digest(found[path]) for path in item["Layers"]] == list(bench.service.get(id).diff_ids)
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/app:1"
    manifest = json.loads(found["blobs/" + entry["digest"].replace(":", "/")])
    assert manifest["config"]["digest"] == id
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_a_bare_name_saves_all_its_tags_and_an_id_none(bench, make_tar) -> None:
    import asyncio

    id = bench.import_(make_tar(a="1"), "app:1")
    asyncio.run(bench.service.tag(id, "app", "2"))
    assert json.loads(members(bench.save("app"))["manifest.json"])[0]["RepoTags"] == ["app:1", "app:2"]
    assert json.loads(members(bench.save(id))["manifest.json"])[0]["RepoTags"] is None
    assert bench.load(bench.save(id)) == [{"stream": f"Loaded image ID: {id}\n"}]


def test_several_images_share_their_layers_in_one_archive(bench, make_tar, archive) -> None:
    base, top = make_tar(a="1"), make_tar(b="2")
    bench.load(archive([base], tags=["one:1"]))
    bench.load(archive([base, top], tags=["two:1"]))
    found = members(bench.save("one:1", "two:1"))
    assert len(json.loads(found["manifest.json"])) == 2
    assert sum(name.startswith("blobs/") for name in found) == 2 + 2 + 2  # layers, configs, manifests


@pytest.mark.row("IMG-01")
def test_a_layer_that_is_there_is_not_unpacked_again(bench, make_tar, archive) -> None:
    base = make_tar(a="1")
    bench.load(archive([base], tags=["one:1"]))
    bench.load(archive([base, make_tar(b="2")], tags=["two:1"]))
    assert bench.snapshots.applied == 2
    assert bench.remove("one:1")[1:] == [f"Deleted: {line}" for line in [bench.events[-1][1]]]
    assert bench.service.resolve("two:1").size == 2


def test_saving_what_is_not_there_is_an_error(bench) -> None:
    with pytest.raises(NotFound, match=r"^No such image: nope$"):
        bench.save("nope")


# formats


def test_layers_may_be_compressed_and_linked(bench, make_tar) -> None:
    first, second = make_tar(a="1"), make_tar(b="2")
    config = {"rootfs": {"type": "layers", "diff_ids": [digest(first), digest(second), digest(first)]}}
    item = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["x/layer.tar", "y/layer.tar", "z/layer.tar"]}
    data = make_tar(
        **{
            "z/layer.tar": (tarfile.SYMTYPE, "../x/layer.tar"),
            "x/layer.tar": gzip.compress(first),
            "./y/layer.tar": zstandard.ZstdCompressor().compress(second),
            "c.json": json.dumps(config),
            "manifest.json": json.dumps([item]),
        }
    )
    assert bench.load(gzip.compress(data)) == [{"stream": "Loaded image: a:1\n"}]
    assert bench.service.resolve("a:1").diff_ids == tuple(config["rootfs"]["diff_ids"])


def test_progress_is_told_unless_quiet(bench, archive, make_tar) -> None:
    loud = bench.load(archive([make_tar(a="x" * 5000)]), quiet=False)
    assert loud[0]["status"] == "Loading layer"
    assert loud[0]["progressDetail"]["current"] == loud[0]["progressDetail"]["total"]
    assert loud[-1] == {"stream": "Loaded image: a:1\n"}


def test_a_name_that_moves_is_told(bench, archive, make_tar) -> None:
    old = bench.import_(make_tar(a="1"), "a:1")
    messages = bench.load(archive([make_tar(a="2")]))
    assert messages[0]["stream"] == (
        f"The image a:1 already exists, renaming the old one with ID {old} to empty string\n"
    )


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, zstandard.ZstdCompressor().compress])
def test_an_oci_layout_is_loaded(bench, make_tar, compress) -> None:
    tar = make_tar(a="1")
    assert bench.load(make_tar(**layout(compress(tar), diff=tar))) == [{"stream": "Loaded image: oci:1\n"}]


def test_a_nested_index_is_resolved_to_this_platform(bench, make_tar) -> None:
    import os

    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    documents = layout(make_tar(a="1"))
    (inner,) = json.loads(documents["index.json"])["manifests"]
    del inner["annotations"]
    other = {"mediaType": MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1}
    inner_index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {**other, "platform": {"architecture": "s390x", "os": "linux"}},
            {**inner, "platform": {"architecture": machine, "os": "linux"}},
            {**other, "platform": {"architecture": "unknown", "os": "unknown"}},
        ],
    }
    entry = blob(documents, json.dumps(inner_index).encode(), INDEX)
    entry["annotations"] = {"io.containerd.image.name": "docker.io/library/nested:1"}
    documents["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    assert bench.load(make_tar(**documents)) == [{"stream": "Loaded image: nested:1\n"}]


def test_an_archive_of_docker_before_1_10_is_loaded(bench, make_tar) -> None:
    first, second = make_tar(a="1"), make_tar(b="2")
    data = make_tar(
        **{
            "repositories": json.dumps({"old": {"1": "top"}}),
            "base/json": json.dumps({"id": "base", "container_config": {"Cmd": ["make", "it"]}}),
            "base/layer.tar": first,
            "top/json": json.dumps({"id": "top", "parent": "base", "os": "linux", "config": {"Cmd": ["sh"]}}),
            "top/layer.tar": second,
        }
    )
    assert bench.load(data) == [{"stream": "Loaded image: old:1\n"}]
    image = bench.service.resolve("old:1")
    assert image.diff_ids == (digest(first), digest(second))
    assert image.config.cmd == ["sh"]


# layers that are unpacked while the archive arrives


def test_large_layers_are_unpacked_before_the_manifest_comes(bench, make_tar) -> None:
    layers = [make_tar(a=LARGE), make_tar(b=LARGE), make_tar(c="small")]
    config = {"rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}}
    item = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["x", "y", "z"]}
    data = make_tar(
        **{
            "y": gzip.compress(layers[1], 1),
            "x": layers[0],
            "z": layers[2],
            "junk": LARGE,
            "unused": make_tar(d=LARGE),
            "c.json": json.dumps(config),
            "manifest.json": json.dumps([item]),
        }
    )
    bench.load(data)
    assert bench.service.resolve("a:1").diff_ids == tuple(config["rootfs"]["diff_ids"])
    assert bench.snapshots.applied == 4  # each once, the junk not, the unused one in vain
    assert len(bench.snapshots.parents) == 3
    assert len(bench.content.list()) == 3
    saved = bench.save("a:1")
    bench.remove("a:1")
    assert bench.is_empty()
    bench.load(saved)
    assert bench.save("a:1") == saved


def test_a_layer_that_can_not_be_compressed_is_kept_as_it_is(bench, make_tar, archive) -> None:
    noise = make_tar(a=random.Random(1).randbytes(17 << 20))
    bench.load(archive([noise]))
    assert [blob.digest for blob in bench.content.list()] == [digest(noise)]
    saved = bench.save("a:1")
    bench.remove("a:1")
    assert bench.is_empty()
    bench.load(saved)
    assert bench.save("a:1") == saved


def test_one_large_layer_may_stand_on_several_others(bench, make_tar) -> None:
    first, second = make_tar(a=LARGE), make_tar(b=LARGE)
    config = {"rootfs": {"type": "layers", "diff_ids": [digest(first), digest(second), digest(first)]}}
    item = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["x", "y", "x"]}
    bench.load(make_tar(x=first, y=second, **{"c.json": json.dumps(config), "manifest.json": json.dumps([item])}))
    assert bench.service.resolve("a:1").diff_ids == tuple(config["rootfs"]["diff_ids"])
    assert bench.snapshots.applied == 3


@pytest.mark.parametrize("assumed", [None, ["etc"]])
def test_a_large_layer_whose_parent_matters_is_unpacked_again_on_it(bench, make_tar, archive, assumed) -> None:
    bench.snapshots.assumed = assumed
    bench.load(archive([make_tar(a=LARGE), make_tar(b=LARGE)]))
    assert bench.snapshots.applied == 3
    assert bench.snapshots.parents == {
        chain: parent for chain, parent in bench.snapshots.parents.items() if chain[:6] == "sha256"
    }
    assert sorted(parent is None for parent in bench.snapshots.parents.values()) == [False, True]
    assert bench.remove("a:1")
    assert bench.is_empty()


def test_a_member_that_comes_twice_counts_as_it_came_last(bench, make_tar) -> None:
    old, new = make_tar(a=LARGE), make_tar(b=LARGE)
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(new)]}})
    item = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["x"]}
    rest = make_tar(x=new, **{"c.json": config, "manifest.json": json.dumps([item])})
    bench.load(make_tar(x=old)[: -(-len(old) // 512) * 512 + 512] + rest)
    assert bench.service.resolve("a:1").diff_ids == (digest(new),)


def test_a_large_layer_that_is_there_is_not_unpacked_again(bench, make_tar, archive) -> None:
    base = make_tar(a=LARGE)
    bench.load(archive([base], tags=["one:1"]))
    bench.load(archive([base, make_tar(b="2")], tags=["two:1"]))
    assert bench.snapshots.applied == 2


def test_the_progress_of_a_large_layer_shows_nothing_that_the_archive_chose(bench, make_tar) -> None:
    messages = bench.load(make_tar(**layout(make_tar(a=LARGE))), quiet=False)
    assert {message["id"] for message in messages if "progressDetail" in message} == {digest(make_tar(a=LARGE))[7:19]}
    bench.remove("oci:1")
    layer = make_tar(b=LARGE)
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(layer)]}})
    item = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["\x1b[2J"]}
    documents = {"\x1b[2J": layer, "c.json": config, "manifest.json": json.dumps([item])}
    messages = bench.load(make_tar(**documents), quiet=False)
    assert not any("id" in message for message in messages if "progressDetail" in message)


# hostile archives


def bad_archives(make_tar, archive, content: str = "1") -> dict[str, Callable[[], bytes]]:
    tar = make_tar(a=content)
    wrong = {"rootfs": {"type": "layers", "diff_ids": [digest(b"other")]}}
    circle = {"a/layer.tar": (tarfile.SYMTYPE, "../b"), "b": (tarfile.SYMTYPE, "a/layer.tar")}
    flipped = layout(tar)
    flipped["blobs/" + digest(tar).replace(":", "/")] = make_tar(a="2")
    both = layout(tar)
    both["index.json"] = both["index.json"][:-1] + b',"layers":[]}'
    return {
        "wrong diff id": lambda: archive([tar], config=wrong),
        "layer missing": lambda: archive([tar], item={"Layers": ["missing"]}),
        "layer outside": lambda: archive([tar], item={"Layers": ["../../../../etc/passwd"]}),
        "absolute layer": lambda: archive([tar], item={"Layers": ["/etc/passwd"]}),
        "link outside": lambda: archive([tar], item={"Layers": ["l"]}, members={"l": (tarfile.SYMTYPE, "/etc/passwd")}),
        "links in a circle": lambda: archive([tar], item={"Layers": ["b"]}, members=circle),
        "config missing": lambda: archive([tar], item={"Config": "no.json"}),
        "config outside": lambda: archive([tar], item={"Config": "../../etc/passwd"}),
        "too few layers": lambda: archive([tar], item={"Layers": []}),
        "bad tag": lambda: archive([tar], tags=["A:1"]),
        "tag without tag": lambda: archive([tar], tags=["a"]),
        "tag with digest": lambda: archive([tar], tags=["a@sha256:" + "0" * 64]),
        "layer no tar": lambda: archive([b"x" * (600 + len(content))]),
        "layer cut": lambda: archive([tar[:-9900]], config={"rootfs": {"type": "layers", "diff_ids": [digest(tar[:-9900])]}}),
        "second image bad": lambda: archive([tar], members={"manifest.json": json.dumps([{"Config": "config.json", "Layers": ["0/layer.tar"]}, {"Config": "x", "Layers": []}])}),
        "manifest no json": lambda: make_tar(**{"manifest.json": "x"}),
        "manifest deep": lambda: make_tar(**{"manifest.json": "[" * 100_000}),
        "manifest duplicate": lambda: make_tar(**{"manifest.json": '[{"Config":"a","Config":"b","Layers":[]}]'}),
        "manifest a directory": lambda: make_tar(**{"manifest.json": (tarfile.DIRTYPE, "")}),
        "layout flipped layer": lambda: make_tar(**flipped),
        "layout ambiguous": lambda: make_tar(**both),
        "layout wrong size": lambda: make_tar(**layout(tar, size=3)),
        "layout wrong digest": lambda: make_tar(**layout(tar, digest="sha256:../../../x")),
        "layout foreign layer": lambda: make_tar(**layout(tar, media_type="application/x-evil")),
        "layout xz layer": lambda: make_tar(**layout(__import__("lzma").compress(tar), diff=tar)),
        "layout version": lambda: make_tar(**{**layout(tar), "oci-layout": '{"imageLayoutVersion":"9"}'}),
        "repositories in a circle": lambda: make_tar(**{"repositories": '{"a":{"1":"x"}}', "x/json": '{"parent":"x"}'}),
        "empty": lambda: b"",
        "garbage": lambda: b"foo\n",
        "cut": lambda: archive([tar])[: 1999 + len(content)],
        "other tar": lambda: tar,
    }  # fmt: skip


CASES = sorted(bad_archives(lambda **_: b"", lambda *_, **__: b"").keys())


@pytest.mark.row("IMG-24")
@pytest.mark.parametrize("content", ["1", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("case", CASES)
def test_c6_i4_i5_a_bad_archive_is_refused_and_leaves_nothing(
    bench, make_tar, archive, case: str, content: str
) -> None:
    with pytest.raises(BoxshipError):
        bench.load(bad_archives(make_tar, archive, content)[case]())
    assert bench.is_empty()
    assert {path.name for path in bench.directory.iterdir()} <= {
        "content", "boxship.db", "boxship.db-wal", "boxship.db-shm", "boxship.db-reserve",
    }  # fmt: skip


def test_the_refusals_are_in_dockers_words(bench, make_tar, archive) -> None:
    tar = make_tar(a="1")
    other = digest(b"other")
    with pytest.raises(BoxshipError) as caught:
        bench.load(archive([tar], config={"rootfs": {"type": "layers", "diff_ids": [other]}}))
    assert str(caught.value) == f'invalid diffID for layer 0: expected "{other}", got "{digest(tar)}"'
    with pytest.raises(BoxshipError, match="layers length mismatch: expected 1, got 0"):
        bench.load(archive([tar], item={"Layers": []}))
    with pytest.raises(BoxshipError) as caught:
        bench.load(b"foo\n")
    assert str(caught.value) == "Error processing tar file(exit status 1): unexpected EOF"


def test_a_failed_load_leaves_what_was_there(bench, make_tar, archive) -> None:
    base = make_tar(a="1")
    bench.load(archive([base], tags=["one:1"]))
    with pytest.raises(BoxshipError):
        bench.load(archive([base, b"x" * 600], tags=["one:1"]))
    assert bench.save("one:1")
    assert bench.remove("one:1")
    assert bench.is_empty()
    with pytest.raises(NoSuchImage):
        bench.service.resolve("one:1")


def test_f5_a_damaged_blob_is_found_when_it_is_saved(bench, make_tar) -> None:
    import os

    bench.import_(make_tar(a="1" * 5000), "app")
    (descriptor,) = bench.content.list()
    path = bench.content.path(descriptor.digest)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(descriptor.size // 2)
        file.write(b"\xff\xff")
    with pytest.raises(BoxshipError, match="is damaged on disk"):
        bench.save("app")


def test_layers_without_rows_are_swept_whatever_their_order(bench):
    keys = [f"sha256:{digit * 64}" for digit in "cab"]
    for parent, key in zip([None, *keys], keys, strict=False):
        bench.snapshots.prepare("extract-1", parent)
        bench.snapshots.commit(key, "extract-1")
    bench.service.layers.sweep()
    assert not bench.snapshots.parents
