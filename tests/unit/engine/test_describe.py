"""What listings and inspect say of a container."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from boxship.base.errors import InvalidInput
from boxship.engine import describe
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.model import ContainerSpec, ContainerStatus, NoSuchContainer, State
from boxship.networks import Endpoint, PublishedPort, Sandbox
from boxship.spec.docker.container import ContainerConfig, GraphDriver, HostConfig


def make(
    number: int, *, name: str = "", state: State = State.EXITED, config: ContainerConfig | None = None, **status: object
) -> Container:
    async def build() -> Container:
        spec = ContainerSpec(
            id=f"{number:02d}" + "a" * 62,
            name=name or f"c{number}",
            created_ns=number * 10**9,
            image_id="sha256:i",
            config=config or ContainerConfig(image="img"),
            host_config=HostConfig(network_mode="bridge"),
            path="sh",
            args=["-c", "echo hi"],
        )
        return Container(spec, ContainerStatus(state=state, **status))

    return asyncio.run(build())


def index_of(*containers: Container) -> ContainerIndex:
    index = ContainerIndex()
    for container in containers:
        index.add(container)
    return index


def select(index: ContainerIndex, *, stopped_too: bool = True, limit: int = 0, **filters: list[str]) -> list[str]:
    chosen = describe.select(
        index, stopped_too=stopped_too, limit=limit, filters=filters, ancestors=frozenset(filters.get("ancestor", []))
    )
    return [container.spec.name for container in chosen]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second"),
        (1.4, "1 second"),
        (48, "48 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3600 * 47, "47 hours"),
        (3600 * 72, "3 days"),
        (3600 * 24 * 28, "4 weeks"),
        (3600 * 24 * 100, "3 months"),
        (3600 * 24 * 800, "2 years"),
    ],
)
@pytest.mark.row("CLI-14")
def test_durations_read_as_dockers(seconds: float, text: str) -> None:
    assert describe.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ContainerStatus(state=State.RUNNING, started_ns=0), "Up 48 seconds"),
        (ContainerStatus(state=State.PAUSED, started_ns=0), "Up 48 seconds (Paused)"),
        (ContainerStatus(state=State.EXITED, finished_ns=45 * 10**9, exit_code=137), "Exited (137) 3 seconds ago"),
        (ContainerStatus(state=State.RESTARTING, finished_ns=46 * 10**9, exit_code=1), "Restarting (1) 2 seconds ago"),
        (ContainerStatus(), "Created"),
        (ContainerStatus(state=State.REMOVING), "Removal In Progress"),
        (ContainerStatus(state=State.DEAD), "Dead"),
    ],
)
@pytest.mark.row("RUN-47")
def test_status_texts(status: ContainerStatus, text: str) -> None:
    assert describe.status_text(status, now_ns=48 * 10**9) == text


@pytest.mark.row("CLI-10")
def test_a_container_is_found_by_id_name_and_unique_prefix() -> None:
    index = index_of(make(10, name="web"), make(11, name="db"))
    assert index.find("web").spec.name == "web"
    assert index.find("/db").spec.name == "db"
    assert index.find("10a").spec.name == "web"
    assert index.find("11" + "a" * 62).spec.name == "db"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("we", ["web"]), ("^/we", ["web"]), ("^/?(web|db)$", ["db", "web"]), ("e.$", ["web"]), ("^b$", []), ("[", [])],
)
def test_names_are_filtered_by_regular_expression(pattern: str, found: list[str]) -> None:
    assert sorted(select(index_of(make(10, name="web"), make(11, name="db")), name=[pattern])) == found


def test_a_limit_that_is_not_positive_is_none() -> None:
    index = index_of(make(10), make(11), make(12))
    assert len(select(index, limit=-1)) == len(select(index, limit=0)) == 3
    assert len(select(index, limit=2)) == 2


@pytest.mark.row("CLI-10")
def test_an_ambiguous_prefix_is_refused_and_an_unknown_one_not_found() -> None:
    index = index_of(make(10), make(11))
    with pytest.raises(InvalidInput, match="multiple IDs found with provided prefix: 1"):
        index.find("1")
    with pytest.raises(NoSuchContainer, match="No such container: nope"):
        index.find("nope")
    with pytest.raises(NoSuchContainer):
        index.find("")


def test_listing_shows_the_living_newest_first() -> None:
    index = index_of(make(1, state=State.RUNNING), make(2), make(3, state=State.PAUSED))
    assert select(index, stopped_too=False) == ["c3", "c1"]
    assert select(index) == ["c3", "c2", "c1"]
    assert select(index, stopped_too=False, limit=2) == ["c3", "c2"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"status": ["exited"]}, ["c2"]),
        ({"exited": ["3"]}, ["c2"]),
        ({"name": ["c1"]}, ["c1"]),
        ({"label": ["k=v"]}, ["c1"]),
        ({"label": ["k", "missing"]}, []),
        ({"ancestor": ["sha256:i"]}, ["c2", "c1"]),
        ({"before": ["c2"]}, ["c1"]),
        ({"since": ["c1"]}, ["c2"]),
        ({"expose": ["80"]}, ["c1"]),
        ({"id": ["01a"]}, ["c1"]),
    ],
)
@pytest.mark.row("CLI-16")
def test_filters(filters: dict[str, list[str]], names: list[str]) -> None:
    config = ContainerConfig(image="img", labels={"k": "v"}, exposed_ports={"80/tcp": {}})
    index = index_of(make(1, state=State.RUNNING, config=config), make(2, exit_code=3))
    assert select(index, **filters) == names


@pytest.mark.parametrize(("key", "value"), [("bogus", "x"), ("status", "bogus"), ("exited", "x"), ("health", "x")])
@pytest.mark.row("API-20")
def test_unknown_filters_are_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidInput, match="invalid filter"):
        select(index_of(), **{key: [value]})


def test_inspect_shows_addresses_and_ports() -> None:
    sandbox = Sandbox(
        id="s",
        key="/k",
        endpoints=[
            Endpoint(
                network="bridge",
                network_id="n",
                endpoint_id="e",
                address="172.17.0.2",
                prefix_length=16,
                gateway="172.17.0.1",
                mac_address="m",
            )
        ],
        ports=[
            PublishedPort(
                protocol="tcp", host_ip="0.0.0.0", host_port=8080, container_ip="172.17.0.2", container_port=80
            )
        ],
    )
    config = ContainerConfig(image="img", exposed_ports={"80/tcp": {}, "90/tcp": {}})
    container = make(1, state=State.RUNNING, config=config, sandbox=sandbox, started_ns=1)
    document = msgspec.to_builtins(describe.inspect(container, files_dir="/f", graph=GraphDriver(name="overlay2")))
    assert document["NetworkSettings"]["IPAddress"] == "172.17.0.2"
    assert document["NetworkSettings"]["Networks"]["bridge"]["Gateway"] == "172.17.0.1"
    assert document["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
        "90/tcp": None,
    }
    assert document["HostsPath"] == "/f/hosts"
    row = msgspec.to_builtins(describe.summary(container, image="img"))
    assert {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"} in row["Ports"]
    assert {"PrivatePort": 90, "Type": "tcp"} in row["Ports"]
    assert row["Command"] == "sh -c 'echo hi'"
