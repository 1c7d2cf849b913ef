"""What provenance tells, and what it never does."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boxship.base.errors import InvalidInput, NotSupported
from boxship.build.attestations import materials, provenance, storage
from boxship.build.attestations.provenance import Facts, Material, docker_purl
from boxship.build.attestations.request import Wanted, parse
from boxship.build.context import Dockerfile
from boxship.build.files import Archive
from boxship.build.graph import Context, Copy, Download, Git, Graph, Image, Run, vertex
from boxship.images.model import LayerRow
from boxship.spec.docker.build import BuildOptions
from boxship.spec.oci import Index, Manifest, Platform, parse_manifest

BASE = vertex(Image(reference="debian:12", id=f"sha256:{'b' * 64}", layers=()), platform="linux/amd64")
CONTEXT = vertex(Context())
COPIED = vertex(Copy(sources=("/",), target="/"), [BASE, CONTEXT])
OPTIONS = BuildOptions(
    target="web",
    build_args={"TOKEN": "in-an-argument", "HTTP_PROXY": "http://user:password@proxy", "UNSET": None},
    labels={"who": "we"},
    secrets={"id1": b"the-secret"},
    ssh={"default": "/run/agent"},
    extra_hosts=("db:10.0.0.1",),
    build_contexts={"more": "/somewhere", "tools": "docker-image://tools:1"},
)


def facts(options: BuildOptions = OPTIONS, **changes: Any) -> Facts:
    run = Run(args=("sh", "-c", "make"), uncounted_env=("HTTP_PROXY=http://user:password@proxy",))
    graph = Graph([BASE, CONTEXT, COPIED, vertex(run, [COPIED])])
    defaults: dict[str, Any] = {
        "options": options,
        "dockerfile": Dockerfile("docker/web.Dockerfile", b"FROM debian:12\n"),
        "graph": graph,
        "materials": [Material("pkg:docker/debian@12", "sha256:1"), Material("https://e.org/x.git#v1", "sha1:2")],
        "image": f"sha256:{'1' * 64}",
        "started_ns": 1_700_000_000_500_000_000,
        "ended_ns": 1_700_000_010_000_000_000,
        "epoch_ns": None,
        "invocation": "random",
    }
    return Facts(**{**defaults, **changes})


def told(wanted: Wanted, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(msgspec.json.encode(provenance.predicate(facts(**changes), wanted)))
    return document


def test_the_least_is_told_without_arguments_labels_and_secrets() -> None:
    document = told(Wanted(provenance="min", builder_id="https://ci/1"))
    definition, run = document["buildDefinition"], document["runDetails"]
    assert definition["externalParameters"] == {
        "configSource": {"path": "docker/web.Dockerfile"},
        "request": {
            "frontend": "dockerfile.v0",
            "args": {
                "target": "web",
                "add-hosts": "db=10.0.0.1",
                "context:more": "local:more",
                "context:tools": "docker-image://tools:1",
            },
            "locals": [{"name": "context"}, {"name": "dockerfile"}],
        },
    }
    assert definition["resolvedDependencies"] == [
        {"uri": "https://e.org/x.git#v1", "digest": {"sha1": "2"}},
        {"uri": "pkg:docker/debian@12", "digest": {"sha256": "1"}},
    ]
    assert run["builder"] == {"id": "https://ci/1"}
    assert run["metadata"]["startedOn"] == "2023-11-14T22:13:20.5Z"
    assert run["metadata"]["invocationID"] == "random"
    assert run["metadata"]["buildkit_hermetic"] is False
    assert run["metadata"]["buildkit_completeness"] == {"request": False, "resolvedDependencies": False}


def test_the_most_tells_all_but_secrets_and_proxies() -> None:
    document = told(Wanted(provenance="max", reproducible=True))
    request = document["buildDefinition"]["externalParameters"]["request"]
    assert request["args"]["build-arg:TOKEN"] == "in-an-argument" and request["args"]["label:who"] == "we"
    assert not [key for key in request["args"] if "UNSET" in key]
    assert request["secrets"] == [{"id": "id1"}] and request["ssh"] == [{"id": "default"}]
    steps = document["buildDefinition"]["internalParameters"]["buildConfig"]["graph"]
    assert [step["operation"]["op"] for step in steps] == ["image", "context", "copy", "run"]
    text = json.dumps(document)
    assert "the-secret" not in text and "password" not in text and "/run/agent" not in text
    assert document["runDetails"]["metadata"]["buildkit_reproducible"] is True


def test_equal_builds_with_an_epoch_give_equal_documents() -> None:
    one, other = (
        told(Wanted(provenance="max"), epoch_ns=10**18, invocation=word, started_ns=number, ended_ns=number)
        for word, number in (("a", 1), ("b", 2))
    )
    assert one == other
    assert one["buildDefinition"]["internalParameters"]["sourceDateEpoch"] == "1000000000"


def test_a_remote_repository_is_the_source_without_its_password() -> None:
    remote = "https://user:password@e.org/x.git"
    options = BuildOptions(remote=remote)
    found = [Material("https://e.org/x.git", "sha1:9")]
    document = told(Wanted(provenance="min"), options=options, materials=found)
    external = document["buildDefinition"]["externalParameters"]
    assert external["configSource"]["uri"] == "https://e.org/x.git" and external["configSource"]["digest"] == {
        "sha1": "9"
    }
    assert external["request"]["locals"] == []
    assert document["runDetails"]["metadata"]["buildkit_completeness"]["resolvedDependencies"] is True


def test_a_dockerfile_from_outside_has_no_random_name() -> None:
    document = told(Wanted(provenance="max"), dockerfile=Dockerfile(".dockerfile.0123abc", b"FROM x\n"))
    assert document["buildDefinition"]["externalParameters"]["configSource"] == {"path": "Dockerfile"}
    assert ".dockerfile." not in json.dumps(document)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("debian", "pkg:docker/debian@latest?platform=linux%2Farm64"),
        ("ghcr.io/a/b:1", "pkg:docker/ghcr.io/a/b@1?platform=linux%2Farm64"),
        (f"a@sha256:{'0' * 64}", f"pkg:docker/a?digest=sha256:{'0' * 64}&platform=linux%2Farm64"),
        (f"sha256:{'0' * 64}", f"pkg:docker/sha256%3A{'0' * 64}"),
    ],
)
def test_images_are_named_by_their_package_url(reference: str, expected: str) -> None:
    assert docker_purl(reference, "linux/arm64") == expected


def test_materials_have_the_digests_of_what_was_fetched(tmp_path: Path) -> None:
    download = vertex(Download(url="https://user:password@e.org/f", name="f"))
    git = vertex(Git(url="https://e.org/x.git", ref="main"))
    lost = vertex(Download(url="https://e.org/never", name="n"))
    fetched = {download.id: "sha256:d", git.id: materials.commit_digest("a" * 40)}
    assert materials.of_vertices([BASE, download, git, lost], fetched, {}) == [
        Material("pkg:docker/debian@12?platform=linux%2Famd64", f"sha256:{'b' * 64}"),
        Material("https://e.org/f", "sha256:d"),
        Material("https://e.org/x.git#main", f"sha1:{'a' * 40}"),
    ]


def tree(directory: Path, **files: str) -> Archive:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, (name, text) in enumerate(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.uid = len(text), number, number
            tar.addfile(entry, io.BytesIO(text.encode()))
    archive = Archive(str(directory))
    archive.fill(io.BytesIO(buffer.getvalue()))
    return archive


def test_contexts_are_known_by_their_content_alone(tmp_path: Path) -> None:
    text = b"FROM x\n"
    one = tree(tmp_path, a="1", b="2", Dockerfile="FROM x\n")
    other = tree(tmp_path, Dockerfile="other", b="2", a="1")
    changed = tree(tmp_path, a="1", b="3")
    try:
        found = [
            materials.of_contexts([CONTEXT], {"": each, "unread": each}, Dockerfile("Dockerfile", text))
            for each in (one, other, changed)
        ]
    finally:
        for each in (one, other, changed):
            each.close()
    assert found[0] == found[1] != found[2]
    assert found[0][0] == Material("local:dockerfile", f"sha256:{hashlib.sha256(text).hexdigest()}")
    assert [material.uri for material in found[0]] == ["local:dockerfile", "local:context"]


def test_manifests_are_those_of_the_format() -> None:
    row = LayerRow(
        diff_id="sha256:x", parent="", size=1, tar_size=1, blob=f"sha256:{'a' * 64}", blob_size=3, compression="gzip"
    )
    image = storage.image_manifest(b"{}", [row])
    said = storage.statement("type", {"a": 1}, image, [])
    assert json.loads(said.data)["subject"] == [{"name": "_", "digest": {"sha256": image.digest.partition(":")[2]}}]
    attestation, config = storage.attestation([("type", said)])
    index, _ = storage.index(image, Platform(os="linux", architecture="amd64"), attestation)
    parsed = [parse_manifest(blob.data, blob.media_type) for blob in (image, attestation, index)]
    assert isinstance(parsed[0], Manifest) and isinstance(parsed[1], Manifest) and isinstance(parsed[2], Index)
    assert parsed[1].config.digest == config.digest
    assert json.loads(config.data)["rootfs"]["diff_ids"] == [said.digest]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, Wanted()),
        ({"sbom": {}}, Wanted(sbom=True)),
        ({"sbom": {"disabled": "true"}, "provenance": {"mode": "max"}}, Wanted(provenance="max")),
        (
            {"provenance": {"builder-id": "x", "reproducible": "true"}},
            Wanted(provenance="min", builder_id="x", reproducible=True),
        ),
    ],
)
def test_what_is_asked_for_is_read(asked: dict[str, dict[str, str]], wanted: Wanted) -> None:
    assert parse(asked) == wanted


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"vex": {}}, InvalidInput),
        ({"sbom": {"generator": "x"}}, NotSupported),
        ({"sbom": {"mode": "max"}}, InvalidInput),
        ({"provenance": {"mode": "all"}}, InvalidInput),
        ({"provenance": {"version": "v0.2"}}, NotSupported),
        ({"provenance": {"reproducible": "perhaps"}}, InvalidInput),
        ({"provenance": {"filename": "x"}}, InvalidInput),
    ],
)
def test_what_cannot_be_made_is_refused(asked: dict[str, dict[str, str]], error: type[Exception]) -> None:
    with pytest.raises(error):
        parse(asked)
