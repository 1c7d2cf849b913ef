"""Images, networks, volumes, system."""

import asyncio

import pytest

from boxship.base.errors import InvalidInput, NotFound
from boxship.spec.docker.image import DeleteItem
from boxship.spec.docker.network import NetworkInspect
from boxship.spec.docker.volume import Volume, VolumeCreate, VolumeList


async def _all(items, error=None):
    for item in items:
        yield item
    if error is not None:
        raise error


async def _give(value):
    return value


def test_names_of_images_hold_slashes(ask, recorder):
    backend = recorder(history=[], tag=None, remove=[DeleteItem(untagged="a/b:c")])
    assert ask("GET", "/images/registry.example:5000/a/b:c/history", images=backend).body == []
    assert ask("POST", "/images/a%2Fb/tag?repo=c/d&tag=e", images=backend).status == 201
    removed = ask("DELETE", "/images/a/b:c?force=1&noprune=1", images=backend)
    assert removed.body == [{"Untagged": "a/b:c"}]
    assert backend.calls == [
        ("history", ("registry.example:5000/a/b:c",), {"platform": None}),
        ("tag", ("a/b", "c/d", "e"), {}),
        ("remove", ("a/b:c",), {"force": True, "prune": False, "wanted": []}),
    ]


def test_list_passes_its_query(ask, recorder):
    backend = recorder(list=[])
    assert ask("GET", '/images/json?all=1&digests=1&filters={"dangling":["true"]}', images=backend).body == []
    assert backend.calls == [
        (
            "list",
            (),
            {"all": True, "filters": {"dangling": ["true"]}, "shared_size": False, "digests": True, "manifests": False},
        )
    ]


@pytest.mark.row("API-22")
def test_pull_passes_the_credentials_and_streams_progress(ask, recorder):
    backend = recorder(pull=lambda reference, tag, **options: _all([{"status": "Pulling"}, {"status": "Done"}]))
    answer = ask("POST", "/images/create?fromImage=a/b&tag=c", headers={"X-Registry-Auth": "e30="}, images=backend)
    assert answer.status == 200
    assert backend.calls == [("pull", ("a/b", "c"), {"platform": None, "auth": "e30="})]


@pytest.mark.parametrize(
    ("items", "status", "text"),
    [
        ([], 400, '{"message":"why"}\n'),
        ([{"status": "x"}], 200, '{"status":"x"}\r\n{"errorDetail":{"message":"why"},"error":"why"}\r\n'),
    ],
)
def test_an_error_is_http_before_the_first_message_and_a_message_after_it(api, recorder, items, status, text):
    async def main():
        backend = recorder(pull=lambda reference, tag, **options: _all(items, InvalidInput("why")))
        async with api(images=backend) as (client, _), client.post("http://x/images/create?fromImage=a") as answer:
            assert (answer.status, await answer.text()) == (status, text)

    asyncio.run(main())


def test_import_reads_the_body_as_it_arrives(api, recorder):
    received = []

    async def import_(source, **options):
        received.extend([chunk async for chunk in source])
        yield {"status": "sha256:abc"}

    async def main():
        backend = recorder(import_=import_)
        async with api(images=backend) as (client, _):
            url = "http://x/images/create?fromSrc=-&repo=r&tag=t&message=m&changes=CMD+a&changes=ENV+b%3Dc"
            async with client.post(url, data=_all([b"x" * 100_000, b"y"])) as answer:
                assert await answer.text() == '{"status":"sha256:abc"}\r\n'
        assert b"".join(received) == b"x" * 100_000 + b"y"
        assert backend.calls[0][2] == {
            "repository": "r",
            "tag": "t",
            "message": "m",
            "changes": ["CMD a", "ENV b=c"],
            "platform": None,
        }

    asyncio.run(main())


def test_a_load_whose_client_leaves_fails_in_the_backend(api, recorder):
    async def main():
        failed = asyncio.Event()

        async def load(source, *, quiet, platform):
            try:
                async for _ in source:
                    pass
            except Exception:
                failed.set()
                raise
            yield {}

        async with api(images=recorder(load=load)) as (_, path):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
            await writer.drain()
            writer.close()
            await failed.wait()

    asyncio.run(main())


def test_a_client_that_waits_for_100_continue_gets_it(api, recorder):
    async def load(source, *, quiet, platform):
        yield {"stream": str(len(b"".join([chunk async for chunk in source])))}

    async def main():
        async with api(images=recorder(load=load)) as (_, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert b'{"stream":"3"}' in await reader.readuntil(b"}")
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize(("path", "refs"), [("/images/a/b/get", ["a/b"]), ("/images/get?names=a&names=b", ["a", "b"])])
def test_save(ask, recorder, path, refs):
    backend = recorder(save=lambda refs, platform: _give(_all([b"tar"])))
    answer = ask("GET", path, images=backend)
    assert (answer.text, answer.headers["Content-Type"]) == ("tar", "application/x-tar")
    assert backend.calls == [("save", (refs,), {"platform": None})]


def test_networks(ask, recorder):
    network = NetworkInspect(name="bridge", id="n", created="")
    backend = recorder(list=[network], inspect=network, remove=NotFound("network x not found"))
    assert ask("GET", "/networks", networks=backend).body[0]["EnableIPv4"] is True
    assert "EnableIPv4" not in ask("GET", "/v1.46/networks/bridge", networks=backend).body
    assert ask("DELETE", "/networks/x", networks=backend).body == {"message": "network x not found"}


def test_volumes(ask, recorder):
    volume = Volume(name="v", mountpoint="/m")
    backend = recorder(
        list_all=VolumeList(volumes=[volume]), create=volume, inspect=volume, remove=None, prune={"SpaceReclaimed": 0}
    )
    listed = ask("GET", "/volumes", volumes=backend).body
    assert [v["Name"] for v in listed["Volumes"]] == ["v"]
    assert listed["Warnings"] is None
    assert ask("POST", "/volumes/create", json={"Name": "v", "Driver": None}, volumes=backend).status == 201
    assert ask("DELETE", "/volumes/v?force=1", volumes=backend).status == 204
    ask("POST", "/v1.41/volumes/prune", volumes=backend)
    ask("POST", "/v1.42/volumes/prune", volumes=backend)
    assert backend.calls[1:] == [
        ("create", (VolumeCreate(name="v"),), {}),
        ("remove", ("v",), {"force": True}),
        ("prune", ({"all": ["true"]},), {}),
        ("prune", ({},), {}),
    ]


@pytest.mark.row("API-04")
def test_disk_usage(ask, recorder):
    backend = recorder(disk_usage=lambda types: _give({"LayersSize": 3, "Images": [{"Size": 3}]}))
    old = ask("GET", "/v1.43/system/df?type=image", system=backend).body
    assert old["Images"] == [{"Size": 3, "VirtualSize": 3}]
    assert "Items" not in ask("GET", "/system/df", system=backend).body["ImageUsage"]
    assert len(ask("GET", "/system/df?verbose=1", system=backend).body["ImageUsage"]["Items"]) == 1
    refused = ask("GET", "/system/df?type=x", system=backend)
    assert (refused.status, refused.body) == (400, {"message": "unknown object type: x"})
    assert backend.calls[0] == ("disk_usage", (["image"],), {})


def test_auth_answers_with_the_registry_s_word(ask, recorder):
    async def login(config):
        assert (config.username, config.serveraddress) == ("joe", "localhost:5000")
        return {"IdentityToken": "", "Status": "Login Succeeded"}

    body = {"username": "joe", "password": "x", "serveraddress": "localhost:5000"}
    answer = ask("POST", "/auth", json=body, remotes=recorder(login=login))
    assert (answer.status, answer.body["Status"]) == (200, "Login Succeeded")
