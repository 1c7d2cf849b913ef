"""What ``build`` takes from the words of ``--secret``, ``--ssh``, ``--output`` and of caches and contexts elsewhere."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path

import pytest

from boxship.cli.building.caches import parse_exports, parse_imports
from boxship.cli.building.calls import answer, outline_text, parse_call, targets_text
from boxship.cli.building.checking import report
from boxship.cli.building.outputs import parse_outputs
from boxship.cli.building.places import named_contexts
from boxship.cli.building.secrets import agents, secrets_document
from boxship.cli.command import ExitError


def values(*items: str) -> dict[str, bytes]:
    document = json.loads(secrets_document(items))
    return {id: base64.b64decode(value) for id, value in document.items()}


def test_a_secret_is_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"\0file\xff")
    (tmp_path / "by-id").write_bytes(b"by id")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VARIABLE", "value")
    assert values(f"id=a,src={tmp_path}/f", "id=b,env=VARIABLE") == {"a": b"\0file\xff", "b": b"value"}
    assert values("id=a,source=f", "type=file,id=b,src=f") == {"a": b"\0file\xff", "b": b"\0file\xff"}
    assert values("id=VARIABLE", "id=by-id") == {"VARIABLE": b"value", "by-id": b"by id"}
    assert values("type=env,id=VARIABLE", "type=env,id=x,src=VARIABLE") == {"VARIABLE": b"value", "x": b"value"}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("x", "invalid field 'x' must be a key=value pair"),
        ("id=a,type=vault", 'unsupported secret type "vault"'),
        ("src=a", "secret missing 'id' in 'src=a'"),
        ("id=a,src=/none/at/all", "failed to read secret a: /none/at/all: no such file or directory"),
        ("id=a,env=NOT_SET_AT_ALL", "secret a: environment variable NOT_SET_AT_ALL is not set"),
        ('id="a', "failed to parse csv secret"),
    ],
)
def test_a_wrong_secret_is_explained(item: str, words: str) -> None:
    with pytest.raises(ExitError) as raised:
        secrets_document([item])
    assert words in raised.value.text


def test_a_secret_has_a_bound(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 512_000)
    assert len(values(f"id=a,src={tmp_path}/f")["a"]) == 512_000
    (tmp_path / "f").write_bytes(b"x" * 512_001)
    with pytest.raises(ExitError) as raised:
        secrets_document([f"id=a,src={tmp_path}/f"])
    assert raised.value.text == "secret a too big. max size 500KB"


def sockets(items: list[str]) -> dict[str, str]:
    with agents(items) as found:
        return found


def test_an_agent_is_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, key = tmp_path / "agent", tmp_path / "key"
    key.write_text("key")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(place))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        assert sockets(["default", f"other={place}"]) == {"default": str(place), "other": str(place)}
    for item, words in (
        (f"default={key}", f"failed to parse {key}: it is no private key"),
        (f"a={key},{place}", "only a single socket is allowed"),
        ("a=/x/y", "failed to open /x/y: no such file or directory"),
    ):
        with pytest.raises(ExitError) as raised:
            sockets([item])
        assert words in raised.value.text
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(ExitError) as raised:
        sockets(["default"])
    assert "invalid empty ssh agent socket" in raised.value.text


def test_an_output_has_a_kind_and_a_place(tmp_path: Path) -> None:
    def parsed(item: str) -> tuple[str, str, list[str], bool]:
        (found,) = parse_outputs([item])
        return found.kind, found.dest, found.names, found.push

    assert parsed(f"{tmp_path}") == ("local", str(tmp_path), [], False)
    assert parsed(f'"type=local","dest={tmp_path}/a,b"') == ("local", f"{tmp_path}/a,b", [], False)
    assert parsed(f"type=tar,dest={tmp_path}/t") == ("tar", f"{tmp_path}/t", [], False)
    assert parsed("type=docker") == ("docker", "", [], False)
    assert parsed('type=image,"name=a,b",push=true') == ("image", "", ["a", "b"], True)
    assert parsed("type=registry,name=a") == ("registry", "", ["a"], True)


def test_places_that_there_are_not_are_named() -> None:
    assert named_contexts(["a=docker-image://b"]) == {"a": "docker-image://b"}
    for function, item in (
        (named_contexts, "a"),
        (named_contexts, "a=https://x"),
    ):
        with pytest.raises(ExitError) as raised:
            function([item])
        assert item in raised.value.text


def test_sources_of_caches_are_images_registries_and_directories(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{}")
    found = parse_imports(["a,b:1", "type=registry,ref=c", f"type=local,src={tmp_path},tag=t", "type=local,src=/none"])

    assert found.names == ["a", "b:1"]
    (prefix,) = found.directories
    assert found.documents == [
        {"type": "registry", "ref": "a", "local-first": True},
        {"type": "registry", "ref": "b:1", "local-first": True},
        {"type": "registry", "ref": "c"},
        {"type": "local", "directory": prefix, "tag": "t"},
    ]
    assert found.warnings == ["local cache import at /none not found"]


def test_targets_of_caches_are_typed() -> None:
    documents, directories = parse_exports(
        [
            "type=inline",
            "type=registry,ref=r,mode=max,image-manifest=false,oci-mediatypes=0,mounts=true,mounts-limit=1m",
            "type=local,dest=d,compression=zstd,ignore-error=true",
            "user/app:cache",
        ]
    )

    assert documents == [
        {"type": "inline"},
        {
            "type": "registry",
            "ref": "r",
            "mode": "max",
            "image-manifest": False,
            "oci-mediatypes": False,
            "mounts": True,
            "mounts-limit": 1 << 20,
        },
        {"type": "local", "compression": "zstd", "ignore-error": True},
        {"type": "registry", "ref": "user/app:cache"},
    ]
    assert directories == {2: "d"}


@pytest.mark.parametrize(
    ("flag", "item", "words"),
    [
        ("from", "type=gha", "could not parse cache importer: unknown cache importer: 'gha'"),
        ("from", "type=registry", "registry cache importer requires ref"),
        ("from", "type=local", "local cache importer requires src"),
        ("from", "type=registry,ref=x,mode=max", "mode is not supported by type=registry"),
        ("from", "ref=x", 'type required form> "ref=x"'),
        ("from", "type=registry,x", "invalid value x"),
        ("to", "type=s3", "could not parse cache exporter: unknown cache exporter: 's3'"),
        ("to", "type=registry", "registry cache exporter requires ref"),
        ("to", "type=local", "local cache exporter requires dest"),
        ("to", "type=inline,mode=max", "mode is not supported by type=inline"),
        ("to", "type=registry,ref=x,mode=most", "unsupported mode 'most'"),
        ("to", "type=registry,ref=x,compression=lzma", "unsupported compression 'lzma'"),
        ("to", "type=registry,ref=x,mounts=perhaps", "failed to parse mounts"),
        ("to", "type=registry,ref=x,mounts-limit=much", "failed to parse mounts-limit"),
        ("to", "type=registry,ref=x,oci-mediatypes=false", "OCI mediatypes are required for image-manifest"),
        ("to", 'type=local,"dest=x', "failed to parse cache"),
    ],
)
def test_a_cache_that_cannot_be_is_refused_with_its_reason(flag: str, item: str, words: str) -> None:
    with pytest.raises(ExitError) as raised:
        (parse_imports if flag == "from" else parse_exports)([item])

    assert words in raised.value.text


def test_findings_are_counted_and_a_check_that_broke_off_is_an_error() -> None:
    one = {"event": "warned", "rule": "R", "message": "m"}
    assert report([one], "D", "") == "Check complete, 1 warning has been found!\n\nWARNING: R\nm\n"
    ended = {"event": "checked", "name": "D", "text": "FROM a\r\nX\n"}
    found = {**one, "line": 2, "end_line": 2, "url": "u"}
    text, status = answer([found, ended], "text")
    assert status == 1 and text.endswith(
        "WARNING: R - u\nm\nD:2\n--------------------\n   1 |     FROM a\n   2 | >>> X\n   3 |\n--------------------\n"
    )
    document, status = answer([found, ended], "json")
    (warning,) = json.loads(document)["warnings"]
    assert status == 1 and (warning["ruleName"], warning["detail"], warning["url"]) == ("R", "m", "u")
    assert warning["location"]["ranges"] == [{"start": {"line": 2}, "end": {"line": 2}}]
    assert base64.b64decode(json.loads(document)["sources"][0]["data"]) == b"FROM a\r\nX\n"
    assert answer([ended], "text") == ("Check complete, no warnings found.\n", 0)
    for events, words in (([one], "did not say"), ([{"event": "aborted", "message": "why"}], "why")):
        with pytest.raises(ExitError) as raised:
            answer(events, "text")
        assert words in raised.value.text


def test_a_call_has_a_method_and_a_format() -> None:
    assert parse_call("lint") == ("check", "text")
    assert parse_call("outline,format=json") == ("outline", "json")
    for text, words in (
        ("x", "unsupported method x"),
        ("check,a=b", "invalid call option a=b"),
        ("check,format=x", "x"),
    ):
        with pytest.raises(ValueError, match=words):
            parse_call(text)


def test_targets_and_parameters_are_tables() -> None:
    stages = [{"name": "one", "description": "is first"}, {"default": True}]
    assert targets_text({"targets": stages}) == "TARGET      DESCRIPTION\none         is first\n(default)\n"
    outline = {
        "name": "one",
        "description": "is first",
        "args": [{"name": "A", "value": "1", "description": "counts"}, {"name": "LONGER"}],
        "secrets": [{"name": "s", "required": True}, {"name": "t"}],
        "ssh": [{"name": "default"}],
    }
    assert outline_text(outline) == (
        "TARGET:        one\nDESCRIPTION:   is first\n\n"
        "BUILD ARG   VALUE   DESCRIPTION\nA           1       counts\nLONGER\n\n"
        "SECRET   REQUIRED\ns        true\nt\n\nSSH       REQUIRED\ndefault\n"
    )
