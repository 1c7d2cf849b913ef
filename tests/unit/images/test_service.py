"""Finding, listing, tagging, removing and pruning images."""

import asyncio

import pytest

from boxship.base.errors import BoxshipError, Conflict, InvalidInput, NotFound
from boxship.images import ImageUser, NoSuchImage
from boxship.images.model import RESERVED_LABELS

CONTAINER = "5f6e468d70ea" + "0" * 52


def pull(bench, name: str, tag: str = "latest") -> list[dict[str, object]]:
    async def run() -> list[dict[str, object]]:
        return [message async for message in bench.service.pull(name, tag, platform=None, auth=None)]

    return asyncio.run(run())


def test_an_image_is_found_by_name_id_and_prefix(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"), "app:1")
    for ref in ("app:1", "docker.io/library/app:1", id, id[7:], id[7:19], id[:19]):
        assert bench.service.resolve(ref).id == id


def test_a_name_comes_before_an_id(bench, make_tar) -> None:
    first = bench.import_(make_tar(a="1"), "one")
    second = bench.import_(make_tar(a="2"), first[7:19])
    assert bench.service.resolve(first[7:19]).id == second


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("x", "No such image: x:latest"),
        ("x:1", "No such image: x:1"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ("localhost:5000/a", "No such image: localhost:5000/a:latest"),
    ],
)
def test_a_missing_image_gets_dockers_words(bench, ref: str, message: str) -> None:
    with pytest.raises(NoSuchImage) as caught:
        bench.service.resolve(ref)
    assert str(caught.value) == message


def test_a_bad_reference_is_not_a_missing_image(bench) -> None:
    with pytest.raises(InvalidInput, match="must be lowercase"):
        bench.service.resolve("Foo")


def test_i8_labels_that_are_reserved_do_not_come_in_with_an_image(bench, make_tar) -> None:
    bench.import_(make_tar(a="1"), "app", changes=[f"LABEL {RESERVED_LABELS}x=1 y=2"])
    assert bench.service.resolve("app").config.labels == {"y": "2"}


@pytest.mark.row("IMG-10")
def test_a_tag_is_one_more_name(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"), "app:1")
    asyncio.run(bench.service.tag("app:1", "localhost:5000/my-image", ""))
    assert bench.service.get(id).references == ["app:1", "localhost:5000/my-image:latest"]
    assert bench.events[-1] == ("tag", id, "localhost:5000/my-image:latest")
    with pytest.raises(InvalidInput, match="must be lowercase"):
        asyncio.run(bench.service.tag("app:1", "X", ""))
    with pytest.raises(NotFound):
        asyncio.run(bench.service.tag("nope", "x", ""))


@pytest.mark.row("IMG-06")
def test_a_listing_can_be_filtered(bench, make_tar) -> None:
    bench.import_(make_tar(a="1"), "one:1", changes=["LABEL kind=a"])
    bench.import_(make_tar(a="2"), "two:1")
    bench.import_(make_tar(a="3"))
    assert bench.names() == [[], ["two:1"], ["one:1"]]
    assert bench.names(dangling=["false"]) == [["two:1"], ["one:1"]]
    assert bench.names(label=["kind=a"]) == [["one:1"]]
    assert bench.names(reference=["t*"]) == [["two:1"]]
    assert bench.names(before=["two:1"]) == [["one:1"]]
    assert bench.names(since=["one:1"]) == [[], ["two:1"]]
    assert bench.names(until=["1h"]) == []
    with pytest.raises(InvalidInput, match="invalid filter 'x'"):
        bench.names(x=["1"])


@pytest.mark.row("IMG-13")
def test_inspect_shows_config_layers_and_driver(bench, make_tar) -> None:
    bench.import_(make_tar(a="1"), "app:1", changes=["ENV A=b", "EXPOSE 80"])
    found = asyncio.run(bench.service.inspect("app:1"))
    assert found.repo_tags == ["app:1"]
    assert found.config.env == ["A=b"]
    assert found.config.exposed_ports == {"80/tcp": {}}
    assert found.graph_driver.data == {"UpperDir": f"/{found.root_fs.layers[0]}/diff"}
    assert found.metadata.last_tag_time > "2020"


@pytest.mark.row("IMG-11")
def test_history_is_newest_first_with_missing_parents(bench, make_tar, archive) -> None:
    history = [
        {"created_by": "/bin/sh -c #(nop) ADD x", "created": "2020-01-01T00:00:00Z"},
        {"created_by": '/bin/sh -c #(nop)  CMD ["sh"]', "empty_layer": True},
        {"created_by": "RUN y", "comment": "c"},
    ]
    bench.load(archive([make_tar(a="12"), make_tar(b="345")], config={"history": history}))
    rows = asyncio.run(bench.service.history("a:1"))
    assert [(row.created_by, row.size) for row in rows] == [
        ("RUN y", 3),
        ('/bin/sh -c #(nop)  CMD ["sh"]', 0),
        ("/bin/sh -c #(nop) ADD x", 2),
    ]
    assert [row.id for row in rows] == [bench.service.resolve("a:1").id, "<missing>", "<missing>"]
    assert rows[2].created == 1577836800


@pytest.mark.row("IMG-09")
def test_removing_the_last_name_gives_everything_back(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"), "app:1")
    chain = bench.service.get(id).chain_id
    assert bench.remove("app:1") == ["Untagged: app:1", f"Deleted: {id}", f"Deleted: {chain}"]
    assert [event[:2] for event in bench.events[-2:]] == [("untag", id), ("delete", id)]
    assert bench.is_empty()


def test_upper_layers_are_deleted_first(bench, make_tar, archive) -> None:
    bench.load(archive([make_tar(a="1"), make_tar(b="2")]))
    image = bench.service.resolve("a:1")
    assert bench.remove(image.id)[-2:] == [f"Deleted: {layer}" for layer in reversed(image.layers)]


def test_a_used_image_is_not_removed(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"), "app:1")
    bench.users = [ImageUser(CONTAINER, id, "app:1", False)]
    with pytest.raises(Conflict, match="container 5f6e468d70ea is using its referenced image"):
        bench.remove("app:1")
    assert bench.service.resolve("app:1").id == id


def test_a_snapshot_under_a_container_outlives_its_image_and_is_swept_later(bench, make_tar) -> None:
    id = bench.import_(make_tar(a="1"), "app:1")
    chain = bench.service.get(id).chain_id
    bench.snapshots.prepare("container", chain)
    bench.users = [ImageUser(CONTAINER, id, "app:1", False)]
    bench.remove("app:1", force=True)
    assert bench.snapshots.exists(chain)
    bench.snapshots.remove("container")
    asyncio.run(bench.service.sweep())
    assert bench.is_empty()


@pytest.mark.row("IMG-19")
def test_prune_takes_dangling_images_and_with_all_the_unused(bench, make_tar) -> None:
    used = bench.import_(make_tar(a="1"), "used:1")
    bench.import_(make_tar(a="22"), "free:1")
    dangling = bench.import_(make_tar(a="333"))
    bench.users = [ImageUser(CONTAINER, used, "used:1", False)]
    report = asyncio.run(bench.service.prune({}))
    assert report["ImagesDeleted"][0].deleted == dangling
    assert report["SpaceReclaimed"] == 3
    report = asyncio.run(bench.service.prune({"dangling": ["false"]}))
    assert report["ImagesDeleted"][0].untagged == "free:1"
    assert bench.names() == [["used:1"]]
    assert asyncio.run(bench.service.prune({})) == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    with pytest.raises(InvalidInput, match="invalid filter 'before'"):
        asyncio.run(bench.service.prune({"before": ["x"]}))


@pytest.mark.row("MCH-10")
def test_hello_world_is_built_in(bench) -> None:
    messages = pull(bench, "hello-world")
    assert messages[0] == {"status": "Pulling from library/hello-world", "id": "latest"}
    assert messages[-1] == {"status": "Status: Downloaded newer image for hello-world:latest"}
    assert bench.service.resolve("hello-world").config.cmd == ["/hello"]
    assert pull(bench, "docker.io/library/hello-world", "")[-1]["status"].startswith("Status: Image is up to date")


def test_a_pull_from_where_nobody_listens_says_so_in_docker_s_words(bench) -> None:
    with pytest.raises(BoxshipError) as caught:
        pull(bench, "localhost:1/nginx", "1.25")
    assert str(caught.value) == 'Get "http://localhost:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'


def test_f1_what_a_kill_left_is_swept_at_the_start(bench, make_tar) -> None:
    """An addition that never ended: blobs under a lease, snapshots without rows."""
    import io

    from boxship.images.layers import LayerStore

    other = LayerStore(bench.store, bench.content, bench.snapshots)
    addition = other.addition()
    opened = addition.__enter__()
    opened.layer(io.BytesIO(make_tar(a="1")), "")
    asyncio.run(bench.service.sweep())
    assert bench.is_empty()


def test_two_additions_of_one_layer_share_it(bench, make_tar) -> None:
    import io

    tar = make_tar(a="1")
    layers = bench.service.layers
    with layers.addition() as first:
        with layers.addition() as second:
            assert first.layer(io.BytesIO(tar), "") == second.layer(io.BytesIO(tar), "")
        assert len(bench.snapshots.committed) == 1
    assert bench.is_empty()
