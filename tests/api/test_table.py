"""One row per call: what an empty engine answers. ``ANY`` fits everything; a dict fits when its fields do.

Where dockerd changed its mind between 20.10 and 28 a row lists both answers in a tuple.
"""

import pytest

ANY = object()
NO_IMAGE = {"message": "No such image: nosuch:latest"}
GONE = {"message": "No such container: nosuch"}
NOT_A_MANAGER = {
    "message": 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
}
JSON = {"Content-Type": "application/json"}


def fits(pattern, value):
    if pattern is ANY:
        return True
    if isinstance(pattern, tuple):
        return any(fits(one, value) for one in pattern)
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(key in value and fits(pattern[key], value[key]) for key in pattern)
    if isinstance(pattern, type):
        return isinstance(value, pattern)
    return pattern == value


TABLE = [
    # method, target, status, body
    ("GET", "/_ping", 200, "OK"),
    ("HEAD", "/_ping", 200, ""),
    ("GET", "/v1.41/version", 200, {"ApiVersion": str, "MinAPIVersion": str, "Os": "linux", "Version": str, "KernelVersion": str}),
    ("GET", "/v1.41/info", 200, {"Containers": int, "Images": int, "Driver": str, "DockerRootDir": str, "NCPU": int}),
    ("GET", "/nothing", 404, {"message": "page not found"}),
    ("POST", "/v1.41/_ping", 404, {"message": "page not found"}),
    ("GET", "/v1.41/Containers/json", 404, {"message": "page not found"}),
    ("GET", "/v1.99/_ping", 400, ANY),
    ("GET", "/v1.41/containers/json", 200, list),
    ("GET", "/v1.41/containers/json?all=1&size=1", 200, list),
    ("GET", "/v1.41/containers/json?limit=x", (400, 500), {"message": 'strconv.Atoi: parsing "x": invalid syntax'}),
    ("GET", '/v1.41/containers/json?filters={"nonsense":["a"]}', 400, ANY),
    ("GET", "/v1.41/containers/nosuch/json", 404, GONE),
    ("GET", "/v1.41/containers/nosuch/logs?stdout=1", 404, GONE),
    ("GET", "/v1.41/containers/nosuch/logs", 400, {"message": "Bad parameters: you must choose at least one stream"}),
    ("GET", "/v1.41/containers/nosuch/stats?stream=0", 404, GONE),
    ("GET", "/v1.41/containers/nosuch/top", 404, GONE),
    ("GET", "/v1.41/containers/nosuch/changes", 404, GONE),
    ("GET", "/v1.41/containers/nosuch/export", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/start", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/stop", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/restart", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/pause", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/unpause", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/wait", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/attach?stream=1", 404, (GONE, "No such container: nosuch\r\n")),
    ("POST", "/v1.41/containers/nosuch/rename?name=b", 404, GONE),
    ("POST", "/v1.41/containers/nosuch/resize?h=1&w=1", 404, GONE),
    ("DELETE", "/v1.41/containers/nosuch", 404, GONE),
    ("POST", "/v1.41/containers/prune", 200, {"SpaceReclaimed": 0}),
    ("GET", "/v1.41/exec/nosuch/json", 404, {"message": str}),
    ("GET", "/v1.41/images/json", 200, list),
    ("GET", "/v1.41/images/nosuch/json", 404, (NO_IMAGE, {"message": "no such image: nosuch: No such image: nosuch:latest"})),
    ("GET", "/v1.41/images/nosuch/history", 404, NO_IMAGE),
    ("POST", "/v1.41/images/nosuch/tag?repo=a", 404, NO_IMAGE),
    ("DELETE", "/v1.41/images/nosuch", 404, NO_IMAGE),
    ("POST", "/v1.41/images/prune", 200, {"SpaceReclaimed": 0}),
    ("GET", "/v1.41/networks", 200, list),
    ("GET", "/v1.41/networks/bridge", 200, {"Name": "bridge", "Driver": "bridge", "Scope": "local", "Containers": dict}),
    ("GET", "/v1.41/networks/nosuch", 404, {"message": "network nosuch not found"}),
    ("DELETE", "/v1.41/networks/nosuch", 404, {"message": "network nosuch not found"}),
    ("DELETE", "/v1.41/networks/bridge", 403, {"message": str}),
    ("GET", "/v1.41/volumes", 200, {"Volumes": list, "Warnings": None}),
    ("GET", "/v1.41/volumes/nosuch", 404, {"message": "get nosuch: no such volume"}),
    ("DELETE", "/v1.41/volumes/nosuch", 404, {"message": "get nosuch: no such volume"}),
    ("GET", "/v1.41/system/df", 200, {"LayersSize": int}),
    ("GET", "/v1.41/events?since=1&until=2", 200, ""),
    ("GET", "/v1.41/swarm", 503, NOT_A_MANAGER),
    ("GET", "/v1.41/nodes", 503, NOT_A_MANAGER),
    ("GET", "/v1.41/services", 503, NOT_A_MANAGER),
    ("GET", "/v1.41/tasks", 503, NOT_A_MANAGER),
    ("GET", "/v1.41/secrets", 503, NOT_A_MANAGER),
    ("GET", "/v1.41/configs", 503, NOT_A_MANAGER),
]  # fmt: skip


@pytest.mark.row("API-04")
@pytest.mark.parametrize(("method", "target", "status", "body"), TABLE, ids=[f"{row[0]} {row[1]}" for row in TABLE])
def test_the_table(ask, method, target, status, body):
    answer = ask(method, target.replace('"', "%22").replace("{", "%7B").replace("}", "%7D"))
    assert fits(status, answer.status), answer.text
    assert fits(body, answer.body), answer.text


@pytest.mark.row("API-05")
@pytest.mark.parametrize(("method", "target"), [("GET", "/_ping"), ("GET", "/v1.41/containers/x/json")])
def test_headers_of_every_answer(ask, method, target):
    headers = ask(method, target).headers
    assert {"Api-Version", "Docker-Experimental", "Ostype", "Server"} <= set(headers)


@pytest.mark.row("API-02")
@pytest.mark.parametrize("name", ["v1", "localhost", "anything.example"])
def test_any_host_is_served(ask, name):
    assert ask("GET", "/version", headers={"Host": name}).status == 200


@pytest.mark.parametrize("target", ["//version", "/x/../version", "/v1.41/%2e%2e/version"])
def test_paths_in_disguise_are_redirected(ask, target):
    answer = ask("GET", target)
    assert (answer.status, answer.headers["Location"]) == (301, "/version")


@pytest.mark.parametrize(
    ("headers", "data"), [(JSON, "{"), (JSON, ""), ({"Content-Type": "text/plain"}, "{}"), (JSON, '{"Cmd":5}')]
)
def test_bad_bodies_of_create(ask, headers, data):
    answer = ask("POST", "/v1.41/containers/create", data=data, headers=headers)
    assert answer.status in (400, 500)  # 500 for bodies that are no JSON in 20.10
    assert answer.body["message"]


@pytest.mark.row("API-06")
def test_create_of_an_unknown_image(ask):
    answer = ask("POST", "/v1.41/containers/create", json_body={"Image": "nosuch"})
    assert (answer.status, answer.body) == (404, {"message": "No such image: nosuch:latest"})


def test_a_volume_is_made_and_removed(ask):
    made = ask("POST", "/v1.41/volumes/create", json_body={"Name": "api-check", "Labels": {"a": "b"}, "Driver": None})
    assert (made.status, made.body["Name"], made.body["Labels"]) == (201, "api-check", {"a": "b"})
    assert ask("GET", "/v1.41/volumes/api-check").body["Scope"] == "local"
    assert (ask("DELETE", "/v1.41/volumes/api-check").status, ask("GET", "/v1.41/volumes/api-check").status) == (
        204,
        404,
    )
