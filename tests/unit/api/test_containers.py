"""Container calls: what reaches the backend and what comes back."""

import asyncio
import contextlib

import pytest

from boxship.api.backend import ContainerQuery
from boxship.base.errors import Conflict, NotFound
from boxship.spec.docker.container import CreateResponse, TopResult, WaitResult


@pytest.mark.row("API-06")
def test_list_passes_its_query(ask, recorder):
    backend = recorder(list=[])
    answer = ask("GET", '/containers/json?all=1&limit=3&size=true&filters={"label":{"a":true}}', containers=backend)
    assert (answer.status, answer.body) == (200, [])
    assert backend.calls == [("list", (ContainerQuery(all=True, limit=3, size=True, filters={"label": ["a"]}),), {})]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/containers/json?limit=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("/containers/json?filters=x", "invalid filter"),
        ("/containers/a/logs", "Bad parameters: you must choose at least one stream"),
        ("/containers/a/logs?stdout=1&since=x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("/containers/a/stats?stream=1&one-shot=1", "cannot have stream=true and one-shot=true"),
    ],
)
def test_bad_queries(ask, recorder, path, message):
    answer = ask("GET", path, containers=recorder())
    assert (answer.status, answer.body) == (400, {"message": message})


@pytest.mark.row("API-06")
def test_create_answers_201(ask, recorder):
    backend = recorder(create=CreateResponse(id="abc"))
    answer = ask("POST", "/containers/create?name=web&platform=linux/amd64", json={"Image": "x"}, containers=backend)
    assert (answer.status, answer.body) == (201, {"Id": "abc", "Warnings": []})
    name, request, platform = backend.calls[0][1]
    assert (name, request.image, platform) == ("web", "x", "linux/amd64")


@pytest.mark.parametrize(
    ("headers", "data", "message"),
    [
        (
            {"Content-Type": "text/plain"},
            b"{}",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        ({"Content-Type": "application/json"}, b"", "invalid JSON: got EOF while reading request body"),
        ({"Content-Type": "application/json; charset=utf-8"}, b"{", "invalid JSON: "),
    ],
)
def test_create_refuses_what_is_no_json(ask, recorder, headers, data, message):
    answer = ask("POST", "/containers/create", data=data, headers=headers, containers=recorder())
    assert answer.status == 400
    assert answer.body["message"].startswith(message)


def test_a_huge_json_body_is_refused_before_it_is_read(api, recorder):
    async def main():
        async with api(containers=recorder()) as (_, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(
                b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 1000000000\r\n\r\n{"
            )
            answer = await reader.readuntil(b"}")
            writer.close()
            assert b" 400 " in answer
            assert b"http: request body too large" in answer

    asyncio.run(main())


@pytest.mark.row("API-07")
@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("start", ("start", ("a",), {})),
        ("stop?t=5&signal=HUP", ("stop", ("a",), {"timeout": 5, "signal": "HUP"})),
        ("stop", ("stop", ("a",), {"timeout": None, "signal": None})),
        ("stop?t=-1", ("stop", ("a",), {"timeout": -1, "signal": None})),
        ("restart?t=0", ("restart", ("a",), {"timeout": 0, "signal": None})),
        ("kill", ("kill", ("a", None), {})),
        ("kill?signal=9", ("kill", ("a", "9"), {})),
        ("pause", ("pause", ("a",), {})),
        ("unpause", ("unpause", ("a",), {})),
        ("rename?name=b", ("rename", ("a", "b"), {})),
    ],
)
def test_lifecycle_calls(ask, recorder, path, call):
    backend = recorder(start=True, stop=True, restart=None, kill=None, pause=None, unpause=None, rename=None)
    answer = ask("POST", f"/containers/a/{path}", containers=backend)
    assert (answer.status, answer.text) == (204, "")
    assert backend.calls == [call]


@pytest.mark.row("API-05")
@pytest.mark.parametrize("action", ["start", "stop"])
def test_304_when_there_is_nothing_to_do(ask, recorder, action):
    answer = ask("POST", f"/containers/a/{action}", containers=recorder(start=False, stop=False))
    assert (answer.status, answer.text) == (304, "")


def test_start_refuses_a_host_configuration(ask, recorder):
    answer = ask("POST", "/containers/a/start", json={"Binds": ["/a:/b"]}, containers=recorder(start=True))
    assert answer.status == 400
    assert answer.body["message"].startswith("starting container with non-empty request body was deprecated")


def test_remove_passes_its_flags(ask, recorder):
    backend = recorder(remove=None)
    assert ask("DELETE", "/containers/a?v=1&force=true&link=0", containers=backend).status == 204
    assert backend.calls == [("remove", ("a",), {"volumes": True, "force": True, "link": False})]


@pytest.mark.parametrize(("target", "status"), [("h=24&w=80", 200), ("h=x&w=1", 400), ("h=1", 400), ("h=-1&w=1", 400)])
def test_resize(ask, recorder, target, status):
    backend = recorder(resize=None)
    assert ask("POST", f"/containers/a/resize?{target}", containers=backend).status == status
    assert backend.calls == ([("resize", ("a", 24, 80), {})] if status == 200 else [])


def test_update_passes_only_what_was_given(ask, recorder):
    backend = recorder(update=["careful"])
    answer = ask(
        "POST",
        "/containers/a/update",
        json={"Memory": 1024, "RestartPolicy": {"Name": "always"}, "CpuShares": None},
        containers=backend,
    )
    assert (answer.status, answer.body) == (200, {"Warnings": ["careful"]})
    assert backend.calls[0][1] == (
        "a",
        {"Memory": 1024, "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
    )


@pytest.mark.row("API-11")
def test_top_and_changes(ask, recorder):
    backend = recorder(top=TopResult(processes=[["1"]], titles=["PID"]), changes=[])
    assert ask("GET", "/containers/a/top?ps_args=aux", containers=backend).body == {
        "Processes": [["1"]],
        "Titles": ["PID"],
    }
    assert ask("GET", "/containers/a/changes", containers=backend).text == "null\n"
    assert backend.calls[0] == ("top", ("a", "aux"), {})


class Wait:
    """A backend whose container ends when ``ending`` is set."""

    def __init__(self):
        self.ending = asyncio.get_running_loop().create_future()
        self.condition = None

    async def wait(self, ref, condition):
        if ref == "missing":
            raise NotFound(f"No such container: {ref}")
        self.condition = condition
        return self.ending


@pytest.mark.row("API-07")
def test_wait_sends_its_head_at_once_and_its_body_at_the_end(api):
    async def main():
        backend = Wait()
        async with api(containers=backend) as (client, _):
            async with client.post("http://x/v1.41/containers/a/wait?condition=removed") as answer:
                assert answer.status == 200
                assert not backend.ending.done()
                backend.ending.set_result(WaitResult(status_code=42))
                assert await answer.json() == {"StatusCode": 42}
            assert backend.condition == "removed"

    asyncio.run(main())


def test_wait_is_cancelled_when_its_client_leaves(api):
    async def main():
        backend = Wait()
        async with api(containers=backend) as (_, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"POST /containers/a/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
            with contextlib.suppress(asyncio.CancelledError):
                await backend.ending
            assert backend.ending.cancelled()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/containers/missing/wait", 404, "No such container: missing"),
        ("/containers/a/wait?condition=x", 400, 'invalid condition: "x"'),
    ],
)
def test_wait_fails_before_its_head(api, path, status, message):
    async def main():
        async with api(containers=Wait()) as (client, _), client.post(f"http://x{path}") as answer:
            assert (answer.status, await answer.json()) == (status, {"message": message})

    asyncio.run(main())


def test_conflicts_are_409(ask, recorder):
    answer = ask("POST", "/containers/a/kill", containers=recorder(kill=Conflict("container a is not running")))
    assert (answer.status, answer.body) == (409, {"message": "container a is not running"})
