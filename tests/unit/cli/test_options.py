"""The small languages of run's flags: ports, mounts, networks, devices, environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.cli import csvfields
from boxship.cli.flags import parse
from boxship.cli.options.devices import parse_devices, parse_gpus
from boxship.cli.options.document import create_document, restart_policy
from boxship.cli.options.environment import read_environment, read_labels
from boxship.cli.options.flags import CREATE_FLAGS, RUN_FLAGS, SYNONYMS
from boxship.cli.options.mounts import parse_mount, parse_volumes
from boxship.cli.options.networks import parse_network
from boxship.cli.options.ports import expand, parse_ports


@pytest.mark.row("NET-18")
@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ("80", [("80/tcp", "", "")]),
        ("8080:80", [("80/tcp", "", "8080")]),
        ("1.2.3.4:8080:80/udp", [("80/udp", "1.2.3.4", "8080")]),
        ("1.2.3.4::80", [("80/tcp", "1.2.3.4", "")]),
        ("[::1]:8080:80", [("80/tcp", "::1", "8080")]),
        ("8080-8081:80-81", [("80/tcp", "", "8080"), ("81/tcp", "", "8081")]),
        ("8080-8090:80", [("80/tcp", "", "8080-8090")]),
        ("80/SCTP", [("80/sctp", "", "")]),
    ],
)
def test_a_published_port_has_many_forms(spec, ports) -> None:
    assert expand(spec) == ports


@pytest.mark.row("NET-18")
@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("x", "invalid containerPort: x"),
        ("99999:80", "invalid hostPort: 99999"),
        ("80:90-91", "invalid ranges specified for container and host Ports: 90-91 and 80"),
        ("80/foo", "invalid proto: foo"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("80:", "no port specified: 80:<empty>"),
        ("90-80", "invalid containerPort: 90-80"),
    ],
)
def test_a_bad_port_is_refused_in_dockers_words(spec, problem) -> None:
    with pytest.raises(ValueError) as caught:
        expand(spec)
    assert str(caught.value) == problem


@given(st.text(max_size=20))
def test_any_text_is_ports_or_refused(spec: str) -> None:
    try:
        exposed, bindings = parse_ports([spec])
    except ValueError:
        return
    assert set(bindings) == exposed


@pytest.mark.row("ISO-20")
def test_a_relative_path_goes_to_the_engine_as_a_name_unless_it_starts_with_a_dot() -> None:
    binds, volumes = parse_volumes(["rel/path:/x", "./rel:/y", "/anonymous", "/a:/b:ro"])
    assert binds == ["rel/path:/x", f"{Path.cwd()}/rel:/y", "/a:/b:ro"]
    assert volumes == {"/anonymous": {}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "value is empty"),
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,src=/a", "target is required"),
        ("type=bind,dst=/a,foo=b", "unexpected key 'foo' in 'foo=b'"),
        ("type=tmpfs,dst=/a,volume-nocopy", "cannot mix 'volume-*' options with mount type 'tmpfs'"),
        ("dst=/a,readonly=maybe", "invalid value for readonly: maybe"),
        ("type=tmpfs,dst=/a,tmpfs-size=x", "invalid value for tmpfs-size: x"),
    ],
)
def test_a_bad_mount_is_refused_in_dockers_words(text, problem) -> None:
    with pytest.raises(ValueError) as caught:
        parse_mount(text)
    assert str(caught.value) == problem


@given(st.text(alphabet='type=bind,volume"srcdst/', max_size=40))
def test_any_text_is_a_mount_or_refused(text: str) -> None:
    try:
        assert parse_mount(text)["Target"] is not None
    except ValueError:
        pass


@given(st.lists(st.text(), min_size=1).filter(lambda fields: fields != [""]))
def test_quoted_fields_survive_commas_and_quotes(fields: list[str]) -> None:
    line = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert csvfields.split(line) == fields


def test_a_network_may_carry_its_own_settings() -> None:
    assert parse_network("foo") == {"target": "foo"}
    found = parse_network("name=foo,alias=a,alias=b,ip=1.2.3.4,driver-opt=K=v")
    assert (found["target"], found["aliases"], found["ip"], found["driver_opts"]) == (
        "foo",
        ["a", "b"],
        "1.2.3.4",
        {"k": "v"},
    )
    for text in ("alias=b", "foo=bar", "name=x,driver-opt=y", "name=x,mac-address=z"):
        with pytest.raises(ValueError):
            parse_network(text)


def test_devices_are_paths_or_qualified_names() -> None:
    mappings, qualified = parse_devices(["/dev/a", "/dev/a:r", "/dev/a:/dev/b", "/dev/a:/dev/b:rw", "vendor.com/gpu=0"])
    assert [tuple(m.values()) for m in mappings] == [
        ("/dev/a", "/dev/a", "rwm"),
        ("/dev/a", "/dev/a", "r"),
        ("/dev/a", "/dev/b", "rwm"),
        ("/dev/a", "/dev/b", "rw"),
    ]
    assert qualified == ["vendor.com/gpu=0"]
    assert parse_gpus("all")["Count"] == -1


@pytest.mark.row("RUN-35", "RUN-36")
def test_environment_comes_from_files_and_flags(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FROM_CALLER", "yes")
    monkeypatch.delenv("NOT_SET", raising=False)
    file = tmp_path / "env"
    file.write_text("\ufeff# comment\n\n  A=1 2\nFROM_CALLER\nNOT_SET\n")
    assert read_environment([str(file)], ["A=9", "B", "A=3"]) == ["A=1 2", "FROM_CALLER=yes", "A=3", "B"]
    assert read_labels([str(file)], ["x=y", "bare"]) == {"A": "1 2", "x": "y", "bare": ""}
    file.write_text("A B=1\n")
    with pytest.raises(ValueError, match="variable 'A B' contains whitespaces"):
        read_environment([str(file)], [])


def test_restart_policies() -> None:
    assert restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    with pytest.raises(ValueError, match="maximum retry count must be an integer"):
        restart_policy("on-failure:x")


def test_no_two_flags_have_one_name_and_run_has_all_of_create() -> None:
    for flags in (CREATE_FLAGS, RUN_FLAGS):
        longs = [flag.long for flag in flags]
        shorts = [flag.short for flag in flags if flag.short]
        assert len(set(longs)) == len(longs)
        assert len(set(shorts)) == len(shorts)
    assert set(CREATE_FLAGS) <= set(RUN_FLAGS)
    assert set(SYNONYMS.values()) <= {flag.long for flag in CREATE_FLAGS}


@pytest.mark.row("RUN-02", "RUN-03", "RUN-04")
@pytest.mark.parametrize(
    ("words", "detach", "attached"),
    [
        ([], False, (False, True, True, False, False)),
        (["-i"], False, (True, True, True, True, True)),
        (["-i"], True, (False, False, False, True, False)),
        (["-a", "stderr"], False, (False, False, True, False, False)),
        (["-a", "stdin", "-i"], False, (True, False, False, True, True)),
    ],
)
def test_which_streams_are_attached(words, detach, attached) -> None:
    values = parse(CREATE_FLAGS, [*words, "busybox"], interspersed=False)
    document = create_document(values, detach=detach, api_socket="")
    fields = ("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce")
    assert tuple(document[field] for field in fields) == attached
