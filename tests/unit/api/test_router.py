"""Paths, versions, permissions, headers, errors."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from boxship.api.errors import STATUS
from boxship.api.router import Kind, Level, Route, Router, parse_target
from boxship.api.server import make_router
from boxship.base import errors
from boxship.http.server import Server


def all_routes():
    class Anything:
        def __getattr__(self, name):
            return self

    return make_router(Anything()).routes


@pytest.mark.parametrize("route", all_routes(), ids=lambda r: f"{r.method} {r.path}")
def test_every_route_declares_its_permission(route):
    assert isinstance(route.level, Level)
    assert isinstance(route.kind, Kind)
    # What changes something is never open to readers; wait changes nothing.
    if route.method not in ("GET", "HEAD") and not route.path.endswith("/wait"):
        assert route.level >= Level.OPERATE


def test_a_route_without_a_permission_cannot_be_made():
    with pytest.raises(TypeError):
        Route("GET", "/x", lambda call: None)


def test_no_two_routes_are_the_same():
    keys = [(route.method, route.path) for route in all_routes()]
    assert len(keys) == len(set(keys))


@pytest.mark.row("API-01")
@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/_ping", 200, None),
        ("/v1.24/_ping", 200, None),
        ("/v1.56/_ping", 200, None),
        ("/v1.99/_ping", 400, "client version 1.99 is too new. Maximum supported API version is 1.56"),
        (
            "/v1.0/_ping",
            400,
            "client version 1.0 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
        ("/v1.9/_ping", 400, "client version 1.9 is too old."),
        ("/v1.23/_ping", 400, "client version 1.23 is too old."),
        ("/v2/_ping", 400, "client version 2 is too new."),
        ("/v1.41", 404, "page not found"),
        ("/vx/_ping", 404, "page not found"),
        ("/v1.99/nothing", 404, "page not found"),
    ],
)
def test_versions_in_the_path(ask, path, status, text):
    answer = ask("GET", path)
    assert answer.status == status
    if text is not None:
        assert answer.body["message"].startswith(text)


@pytest.mark.row("API-02")
def test_any_host_header_is_accepted(ask):
    for host in ("v1", "docker", "api.moby.localhost", "[::1]", "a b"):
        assert ask("GET", "/_ping", headers={"Host": host}).status == 200


@pytest.mark.row("API-03")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(ask, method):
    answer = ask(method, "/_ping")
    assert answer.status == 200
    assert answer.text == ("OK" if method == "GET" else "")
    expected = {
        "Api-Version": "1.56",
        "Builder-Version": "1",
        "Docker-Experimental": "false",
        "Ostype": "linux",
        "Swarm": "inactive",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "2",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert answer.headers["Server"].startswith("Boxship/")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("POST", "/_ping"),
        ("GET", "/Containers/json"),
        ("POST", "/builder"),
        ("POST", "/swarm/init"),
        ("GET", "/plugins"),
        ("POST", "/networks/x/rename"),
        ("GET", "/containers/json/"),
    ],
)
def test_what_is_not_served_is_a_page_not_found_with_all_headers(ask, method, path):
    answer = ask(method, path)
    assert (answer.status, answer.body) == (404, {"message": "page not found"})
    assert answer.headers["Api-Version"] == "1.56"
    assert answer.headers["Ostype"] == "linux"


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("//_ping", "/_ping"),
        ("/x/../_ping", "/_ping"),
        ("/v1.41//containers/json?all=1", "/v1.41/containers/json?all=1"),
        ("/containers/%2e%2e/_ping", "/_ping"),
        ("/containers/%2E%2E%2F_ping", "/_ping"),
        ("/./_ping", "/_ping"),
        ("/%2f_ping", "/_ping"),
        ("/v1.41/../_ping", "/_ping"),
    ],
)
def test_a_path_in_disguise_is_redirected_and_never_served(ask, path, plain):
    answer = ask("GET", path)
    assert (answer.status, answer.headers["Location"]) == (301, plain)


@pytest.mark.parametrize("raw", ["http://x/v1.41/version?a=b", "/v1.41/version?a=b"])
def test_absolute_and_origin_form_mean_the_same(raw):
    target = parse_target(raw)
    assert (target.path, target.query, target.version, target.redirect) == ("/version", "a=b", (1, 41), None)


@given(st.text(alphabet=st.sampled_from("/.%2efvV1a0-_?#:;\\ \x00é")))
def test_a_served_path_is_plain_and_stays_the_same_when_parsed_again(text):
    target = parse_target("/" + text)
    if target.redirect is None and target.version is None:
        assert "//" not in target.path
        assert not {".", ".."} & set(target.path.split("/"))
    elif target.redirect is not None:
        assert parse_target(target.redirect).redirect is None


@pytest.mark.row("API-05")
@pytest.mark.parametrize(
    ("error", "status"),
    [(cls("why"), status) for cls, status in STATUS.items()]
    + [(errors.DeadlineExceeded("why"), 503), (errors.BoxshipError("why"), 500)],
)
def test_errors_have_one_shape(ask, recorder, error, status):
    answer = ask("GET", "/containers/x/json", containers=recorder(inspect=error))
    assert (answer.status, answer.body) == (status, {"message": "why"})


def test_an_unexpected_exception_is_a_500_and_logged(ask, recorder, caplog):
    answer = ask("GET", "/containers/x/json", containers=recorder(inspect=ZeroDivisionError("bug")))
    assert (answer.status, answer.body) == (500, {"message": "ZeroDivisionError: bug"})
    assert "Traceback" in caplog.text


def test_names_that_are_no_utf8_come_back_readable(ask, recorder):
    def inspect(ref, *, size):
        raise errors.NotFound(f"No such container: {ref}")

    answer = ask("GET", "/containers/%ff%fe/json", containers=recorder(inspect=inspect))
    assert (answer.status, answer.body) == (404, {"message": "No such container: ��"})


@pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/nodes/self"])
def test_cluster_calls_say_that_this_is_no_manager(ask, path):
    answer = ask("GET", path)
    assert answer.status == 503
    assert answer.body["message"].startswith('This node is not a swarm manager. Use "docker swarm init"')


def test_a_refused_upgrade_closes_the_connection(ask, recorder):
    answer = ask(
        "POST",
        "/containers/x/attach?stream=1",
        headers={"Connection": "Upgrade", "Upgrade": "tcp"},
        containers=recorder(attach=errors.NotFound("No such container: x")),
    )
    assert (answer.status, answer.body) == (404, {"message": "No such container: x"})
    assert answer.headers["Connection"] == "close"


def test_one_bad_query_is_a_400(ask):
    answer = ask("GET", "/_ping?" + "a=b&" * 1001)
    assert answer.status == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"User-Agent": "Mozilla/5.0 (X11)"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"User-Agent": "Docker-Client/28"}, 200),
    ],
)
def test_web_pages_are_not_served_over_plain_tcp(headers, status):
    """Cross-site requests and rebound names both come from browsers."""

    async def hello(call):
        return web.Response()

    async def main():
        server = Server(Router([Route("GET", "/x", hello, Level.READ, Kind.SYSTEM)]))
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{port}/x", headers=headers) as answer,
        ):
            assert answer.status == status
        listener.close()
        await server.shutdown(0.1)

    asyncio.run(main())
