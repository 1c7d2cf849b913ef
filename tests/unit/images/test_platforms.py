"""Images of several platforms under one name."""

from __future__ import annotations

import asyncio

import pytest

from boxship.base.errors import Conflict, InvalidInput, NotFound
from boxship.images import ImageUser
from boxship.images.archives.outgoing import Outgoing
from boxship.images.reference import parse
from boxship.spec.oci import Platform
from harness.platforms import HERE, OTHERS, Multi

NAME = "docker.io/library/multi:1"


@pytest.fixture
def multi(make_tar) -> Multi:
    return Multi(make_tar)


def rows(bench):
    return asyncio.run(bench.service.list(all=False, filters={}, shared_size=False, digests=False, manifests=True))


def cargo(bench, platform=None):
    return Outgoing(bench.store, bench.content).select(parse(NAME), platform)


def tagged(bench, source: str, name: str, tag: str) -> None:
    asyncio.run(bench.service.tag(source, name, tag))


def remove_variants(bench, ref: str, *wanted: str, force: bool = False) -> list[str]:
    items = asyncio.run(bench.service.remove(ref, force=force, prune=True, wanted=wanted))
    return [item.deleted or f"untagged {item.untagged}" for item in items if item.deleted is not None]


def test_without_a_platform_only_this_host_s_image_is_loaded(bench, multi) -> None:
    bench.load(multi.tar())
    assert bench.service.resolve("multi:1").id == multi.ids[HERE]
    assert [row.id for row in rows(bench)] == [multi.ids[HERE]]
    assert cargo(bench).top.digest != multi.digest


@pytest.mark.row("IMG-14")
def test_platforms_are_loaded_one_beside_the_other_under_one_name(bench, multi) -> None:
    for architecture in (OTHERS[0], HERE):
        assert bench.load(multi.tar(), platform=f"linux/{architecture}") == [{"stream": "Loaded image: multi:1\n"}]
    assert bench.service.resolve("multi:1").id == multi.ids[HERE]
    for architecture in (OTHERS[0], HERE):
        assert bench.service.resolve("multi:1", f"linux/{architecture}").id == multi.ids[architecture]
    with pytest.raises(
        NotFound, match=r"^image with reference multi:1 was found but does not provide .* \(linux/s390x\)$"
    ):
        asyncio.run(bench.service.inspect("multi:1", platform="linux/s390x"))


@pytest.mark.row("IMG-06")
def test_a_listing_tells_each_manifest_of_the_index(bench, multi) -> None:
    bench.load(multi.tar(), platform=f"linux/{OTHERS[0]}")
    bench.load(multi.tar(), platform=HERE)
    bench.users.append(ImageUser("c" * 64, multi.ids[OTHERS[0]], "multi:1", False))
    (row,) = rows(bench)
    assert row.repo_tags == ["multi:1"]
    assert row.descriptor.digest == multi.digest
    found = {one.id: one for one in row.manifests}
    assert len(found) == 6
    for architecture, manifest in multi.manifests.items():
        one = found[manifest]
        assert one.kind == "image"
        assert one.image_data.platform.architecture == architecture
        assert one.available == (architecture != OTHERS[1])
        assert (one.size.content > 0, one.size.total > one.size.content) == (one.available, one.available)
        assert one.image_data.containers == (["c" * 64] if architecture == OTHERS[0] else [])
    attestations = [one for one in row.manifests if one.kind == "attestation"]
    assert {one.attestation_data.for_: one.available for one in attestations} == {
        manifest: architecture != OTHERS[1] for architecture, manifest in multi.manifests.items()
    }
    layers = {OTHERS[0], HERE}
    assert row.size == sum(found[multi.manifests[name]].image_data.size.unpacked for name in layers)


@pytest.mark.row("IMG-14")
def test_all_platforms_come_and_go_with_unchanged_digests(bench, multi) -> None:
    assert bench.load(multi.tar(), platform="all") == [{"stream": "Loaded image: multi:1\n"}]
    sent = cargo(bench)
    assert sent.top.digest == multi.digest
    assert {image.manifest.digest for image in sent.images} == set(multi.manifests.values())
    assert sent.images[0].id == multi.ids[HERE]
    assert len(sent.attestations) == 3
    assert sent.note is None
    saved = bench.save("multi:1")
    bench.remove("multi:1")
    assert bench.is_empty()
    bench.load(saved, platform="all")
    assert cargo(bench).top.digest == multi.digest
    assert bench.save("multi:1") == saved
    bench.remove("multi:1")
    bench.load(saved)  # any Docker's way: the image of this host
    assert bench.service.resolve("multi:1").id == multi.ids[HERE]
    bench.remove("multi:1")
    assert bench.is_empty()


@pytest.mark.row("IMG-14")
def test_one_platform_is_saved_and_pushed_alone(bench, multi) -> None:
    bench.load(multi.tar(), platform="all")
    saved = bench.save("multi:1", platform="linux/s390x")
    wanted = Platform(os="linux", architecture="s390x")
    assert cargo(bench, wanted).top.digest == multi.manifests["s390x"]
    bench.remove("multi:1")
    bench.load(saved)
    assert bench.service.resolve("multi:1").id == multi.ids["s390x"]
    with pytest.raises(InvalidInput, match="no image for this platform"):
        bench.load(saved, platform="linux/riscv64")


def test_of_a_part_of_an_index_this_host_s_image_is_pushed_and_that_is_told(bench, multi) -> None:
    bench.load(multi.tar(), platform=HERE)
    bench.load(multi.tar(), platform=OTHERS[0])
    sent = cargo(bench)
    assert sent.top.digest == multi.manifests[HERE]
    assert sent.note["manifestPushedInsteadOfIndex"] is True
    assert sent.note["originalIndex"]["digest"] == multi.digest
    assert sent.note["selectedManifest"]["digest"] == multi.manifests[HERE]


@pytest.mark.row("IMG-14")
def test_one_platform_is_removed_and_the_name_means_another(bench, multi) -> None:
    bench.load(multi.tar(), platform="all")
    tagged(bench, "multi:1", "other", "2")
    assert remove_variants(bench, "multi:1", f"linux/{HERE}")[0] == multi.ids[HERE]
    assert bench.service.resolve("multi:1").id in (multi.ids[OTHERS[0]], multi.ids[OTHERS[1]])
    assert bench.service.resolve("other:2").id == bench.service.resolve("multi:1").id
    with pytest.raises(NotFound, match="does not provide the specified platform"):
        remove_variants(bench, "multi:1", f"linux/{HERE}")
    bench.remove("other:2")
    remove_variants(bench, "multi:1", *(f"linux/{name}" for name in OTHERS))
    assert bench.is_empty()


def test_a_platform_that_a_container_runs_stays(bench, multi) -> None:
    bench.load(multi.tar(), platform="all")
    user = ImageUser("c" * 64, multi.ids[OTHERS[0]], "multi:1", True)
    bench.users.append(user)
    with pytest.raises(Conflict, match="image is being used by running container"):
        remove_variants(bench, "multi:1", OTHERS[0], force=True)
    assert asyncio.run(bench.service.prune({"dangling": ["false"]}))["ImagesDeleted"] is None
    bench.remove("multi:1")  # as always: the name goes, and what is not in use
    assert [row.id for row in rows(bench)] == [multi.ids[OTHERS[0]]]
    bench.users.clear()
    bench.remove(multi.ids[OTHERS[0]])
    assert bench.is_empty()


def test_a_second_tag_means_the_same_platforms_and_keeps_them(bench, multi) -> None:
    bench.load(multi.tar(), platform="all")
    tagged(bench, "multi:1", "other", "2")
    bench.remove("multi:1")
    for architecture, id in multi.ids.items():
        assert bench.service.resolve("other:2", f"linux/{architecture}").id == id
    tagged(bench, multi.ids[HERE], "other", "2")  # by id: this one image
    assert bench.service.resolve("other:2", f"linux/{OTHERS[0]}").id == multi.ids[HERE]
    assert len(rows(bench)) == 3  # the others are untagged now
    asyncio.run(bench.service.prune({}))
    assert [row.id for row in rows(bench)] == [multi.ids[HERE]]
    bench.remove("other:2")
    assert bench.is_empty()


def test_a_name_that_moves_leaves_its_platforms_untagged(bench, multi, make_tar) -> None:
    bench.load(multi.tar(), platform="all")
    bench.import_(make_tar(new="1"), "multi:1")
    assert len(rows(bench)) == 4
    assert bench.service.resolve("multi:1", f"linux/{OTHERS[0]}").id == bench.service.resolve("multi:1").id
    asyncio.run(bench.service.prune({}))
    bench.remove("multi:1")
    assert bench.is_empty()


def test_a_newer_index_takes_the_name_from_the_older_one(bench, multi, make_tar) -> None:
    bench.load(multi.tar(), platform="all")
    newer = Multi(make_tar, (HERE, OTHERS[0]))
    bench.load(newer.tar(), platform=HERE)
    (named,) = [row for row in rows(bench) if row.repo_tags]
    assert named.descriptor.digest == newer.digest
    with pytest.raises(NotFound):
        asyncio.run(bench.service.inspect("multi:1", platform=OTHERS[0]))


def test_an_image_that_is_deleted_by_its_id_leaves_the_index(bench, multi) -> None:
    bench.load(multi.tar(), platform="all")
    bench.remove(multi.ids[OTHERS[0]])
    (row,) = rows(bench)
    assert [one.available for one in row.manifests if one.kind == "image"] == [True, False, True]
    assert cargo(bench).note is not None


def test_an_index_that_is_lost_leaves_the_images_usable(bench, multi) -> None:
    bench.load(multi.tar(), platform="all")
    bench.content.delete(multi.digest)
    assert cargo(bench).top.digest == multi.manifests[HERE]
    (row,) = rows(bench)
    assert row.manifests == []
    bench.save("multi:1")
    bench.load(multi.tar(), platform=HERE)
    assert cargo(bench).top.digest == multi.digest
    bench.remove("multi:1")
    assert bench.is_empty()


def test_the_sweep_after_a_crash_keeps_what_indexes_need(bench, multi) -> None:
    bench.load(multi.tar(), platform="all")
    asyncio.run(bench.service.sweep())
    assert cargo(bench).top.digest == multi.digest
