"""Bodies as Go's decoder takes them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.api.containers import UpdateRequest
from boxship.api.decode import decode
from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import CreateRequest, ExecConfig
from boxship.spec.docker.volume import VolumeCreate


def create(document):
    return decode(msgspec.json.encode(document), CreateRequest)


def test_null_means_not_given():
    body = create({"Hostname": None, "Tty": None, "Env": None, "HostConfig": {"Memory": None, "RestartPolicy": None}})
    assert body.hostname == ""
    assert body.tty is False
    assert body.host_config.memory == 0
    assert body.host_config.restart_policy.name == ""


def test_null_in_maps_and_lists_is_the_zero_value():
    body = create(
        {
            "Labels": {"a": None},
            "ExposedPorts": {"80/tcp": None},
            "Env": ["A=1", None],
            "HostConfig": {"PortBindings": {"80/tcp": None, "81/tcp": [None]}},
            "NetworkingConfig": {"EndpointsConfig": {"net": None}},
        }
    )
    assert body.labels == {"a": ""}
    assert body.exposed_ports == {"80/tcp": {}}
    assert body.env == ["A=1", ""]
    assert body.host_config.port_bindings["80/tcp"] is None
    assert body.host_config.port_bindings["81/tcp"][0].host_port == ""
    assert body.networking_config.endpoints_config == {"net": None}


@pytest.mark.parametrize(("given", "value"), [("ls -la", ["ls -la"]), (["ls", "-la"], ["ls", "-la"]), (None, None)])
def test_commands_are_lists_or_one_string(given, value):
    body = create({"Cmd": given, "Entrypoint": given})
    assert body.cmd == value
    assert body.entrypoint == value


def test_field_names_ignore_case_and_unknown_fields_are_ignored():
    body = create({"image": "x", "HOSTCONFIG": {"memory": 5}, "Nonsense": {"a": [1]}})
    assert body.image == "x"
    assert body.host_config.memory == 5


def test_the_exact_name_is_found_beside_another_spelling():
    assert create({"Image": "x", "image": "y"}).image in ("x", "y")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"x"',
        '{"Tty":"yes"}',
        '{"HostConfig":{"Memory":"5"}}',
        '{"HostConfig":{"Memory":99999999999999999999}}',
        '{"Env":"x","Cmd":5}',
        '{"Labels":["a"]}',
        "{} {}",
        "[" * 200_000,
        '{"Healthcheck":' * 100_000,
        "\xff",
    ],
)
def test_bad_bodies_are_invalid_json(text):
    with pytest.raises(InvalidInput, match=r"^invalid JSON"):
        decode(text.encode("latin-1"), CreateRequest)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_names := [
        "Cmd", "Env", "HostConfig", "Memory", "PortBindings", "80/tcp", "Mounts", "Labels", "Healthcheck", "Name",
        "NetworkingConfig", "EndpointsConfig", "Driver", "DriverOpts", "Ulimits", "RestartPolicy", "cmd", "Tty",
    ]), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(json_values, st.sampled_from([CreateRequest, ExecConfig, VolumeCreate, UpdateRequest]))
def test_any_document_is_a_model_or_invalid(document, model):
    try:
        assert isinstance(decode(msgspec.json.encode(document), model), model)
    except InvalidInput as error:
        assert str(error).startswith("invalid JSON: ")


@given(st.binary(max_size=64))
def test_any_bytes_are_a_model_or_invalid(data):
    try:
        decode(data, CreateRequest)
    except InvalidInput:
        pass
