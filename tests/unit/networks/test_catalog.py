from __future__ import annotations

import pytest

from boxship.base.errors import Conflict, InvalidInput, NotFound
from boxship.networks import catalog
from boxship.networks.catalog import Network
from boxship.store import Store

NETWORKS = [
    Network(id="aa" + "0" * 62, name="bridge", driver="bridge", created_ns=0),
    Network(id="ab" + "0" * 62, name="host", driver="host", created_ns=0),
    Network(id="b" + "0" * 63, name="none", driver="null", created_ns=0),
]


def names(filters, used=()):
    return [n.name for n in NETWORKS if catalog.matches(n, filters, used=n.name in used)]


@pytest.mark.row("NET-01")
def test_the_built_in_networks_keep_their_identity(tmp_path):
    store = Store(str(tmp_path / "db"))
    first = store.write_now(lambda tx: catalog.create_built_in(tx, 1))
    second = store.write_now(lambda tx: catalog.create_built_in(tx, 2))
    store.close()
    assert first == second
    assert [(network.name, network.driver) for network in first] == [
        ("bridge", "bridge"),
        ("host", "host"),
        ("none", "null"),
    ]


def test_a_reference_is_a_name_an_id_or_a_unique_beginning_of_one():
    assert catalog.find(NETWORKS, "host").name == "host"
    assert catalog.find(NETWORKS, NETWORKS[1].id).name == "host"
    assert catalog.find(NETWORKS, "aa").name == "bridge"
    with pytest.raises(Conflict, match=r"network a is ambiguous \(2 matches found on ID prefix\)"):
        catalog.find(NETWORKS, "a")
    for missing in ("nope", ""):
        with pytest.raises(NotFound, match=f"network {missing} not found"):
            catalog.find(NETWORKS, missing)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["bridge", "host", "none"]),
        ({"driver": ["null"]}, ["none"]),
        ({"name": ["os", "none"]}, ["host", "none"]),
        ({"name": ["^b.*e$"]}, ["bridge"]),
        ({"id": ["ab"]}, ["host"]),
        ({"scope": ["swarm"]}, []),
        ({"label": ["x"]}, []),
        ({"type": ["builtin"]}, ["bridge", "host", "none"]),
        ({"type": ["custom"]}, []),
        ({"dangling": ["true"]}, []),
        ({"dangling": ["0"]}, ["bridge", "host", "none"]),
    ],
)
def test_filters(filters, expected):
    assert names(filters) == expected


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"foo": ["bar"]}, "invalid filter 'foo'"),
        ({"type": ["x"]}, "invalid filter: 'type'='x'"),
        ({"dangling": ["x"]}, "invalid value for filter 'dangling', must be"),
    ],
)
def test_unknown_filters_are_refused(filters, text):
    with pytest.raises(InvalidInput) as raised:
        names(filters)
    assert str(raised.value).startswith(text)
