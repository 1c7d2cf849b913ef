"""Caches that leave an engine and serve another one: in a registry, a directory, an image; with cache mounts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.accounts import with_accounts
from harness.engine import Engine
from harness.images import import_busybox
from harness.registry import PeerRegistry
from harness.registry_server import RegistryServer

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

STAGES = """\
FROM {base} AS build
RUN mkdir /out && date +%s%N > /out/once
RUN true
FROM {base}
WORKDIR /w
COPY f /f
COPY --from=build /out /out
COPY <<EOF /heredoc
text
EOF
RUN --mount=type=bind,source=f,target=/m cat /m /out/once > /last
CMD ["x"]
"""


@pytest.fixture(scope="module")
def registry(engine: Engine) -> Iterator[RegistryServer]:
    server = RegistryServer(prefix=engine.namespace.prefix())
    try:
        server.start()
        engine.docker("tag", "busybox", f"localhost:{server.port}/base")
        engine.docker("push", f"localhost:{server.port}/base")
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def base(registry: RegistryServer) -> str:
    return f"localhost:{registry.port}/base"


@pytest.fixture(scope="module")
def second(engine: Engine) -> Iterator[Engine]:
    """A second engine beside the first, with an empty root."""
    second = Engine(namespace=engine.namespace)
    try:
        second.start()
        yield second
    finally:
        second.close()


@pytest.fixture
def other(second: Engine) -> Iterator[Engine]:
    """The second engine, which afterwards has nothing again."""
    yield second
    for image in second.api("GET", "/images/json?all=1")[1]:
        second.api("DELETE", f"/images/{image['Id']}?force=1")
    second.docker("builder", "prune", "--all", "--force")
    assert second.api("GET", "/images/json?all=1")[1] == []
    assert not second.api("GET", "/v1.41/system/df")[1].get("BuildCache")


def _context(directory: Path, dockerfile: str) -> str:
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    (directory / "f").write_text("file\n")
    return str(directory)


class Built:
    """What a build said and gave."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.events: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines() if line[:1] == "{"]
        self.error = done.stderr if done.returncode else ""
        named = {row["vertex"] for event in self.events if event["event"] == "planned" for row in event["vertices"]}
        ended = [event for event in self.events if event["event"] == "ended" and event["vertex"] in named]
        self.cached = [event.get("place", "") for event in ended if event.get("cached")]
        self.made = sum(not event.get("cached") and bool(event.get("reason")) for event in ended)
        self.image = next((event["image"] for event in self.events if event["event"] == "built"), "")
        self.warnings = [event["message"] for event in self.events if event["event"] == "warned"]


def _build(engine: Engine, context: str, *flags: str) -> Built:
    built = Built(engine.boxship("build", "--progress=rawjson", *flags, context, check=False))
    assert not built.error, built.error
    return built


@pytest.mark.row("BLD-06")
def test_a_cache_in_a_registry_serves_every_step_elsewhere(
    engine: Engine, other: Engine, base: str, tmp_path: Path
) -> None:
    context = _context(tmp_path / "c", STAGES.format(base=base))
    place = base.replace("/base", "/cache:max")

    first = _build(engine, context, "--cache-to", f"type=registry,ref={place},mode=max")
    second = _build(other, context, "--cache-from", f"type=registry,ref={place}")
    why = other.boxship("build", "--progress=plain", "--why", "--cache-from", f"type=registry,ref={place}", context)

    assert first.made + len(first.cached) == 7
    assert second.made == 0 and second.cached == [f"registry {place}"] * 7, second.events
    assert first.image == second.image
    assert not second.warnings
    assert "cached: from" not in why.stderr and why.stderr.count("CACHED") == 7  # they are its own now


@pytest.mark.row("BLD-06")
def test_why_says_where_a_result_came_from(engine: Engine, other: Engine, base: str, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /why\n")
    place = base.replace("/base", "/cache:why")

    _build(engine, context, "--cache-to", f"type=registry,ref={place}")
    said = other.boxship("build", "--progress=plain", "--why", "--cache-from", place, context).stderr

    assert f"cached: from registry {place}\n" in said
    assert f"importing cache manifest from {place}\n" in said


def test_only_the_layers_of_the_result_go_in_the_smaller_mode(
    engine: Engine, other: Engine, base: str, tmp_path: Path
) -> None:
    context = _context(tmp_path / "c", STAGES.format(base=base).replace("date +%s%N", "echo 1"))
    place = base.replace("/base", "/cache:min")

    _build(engine, context, "--cache-to", place)
    second = _build(other, context, "--cache-from", place)

    assert second.made == 2 and len(second.cached) == 5


@pytest.mark.parametrize(
    "attributes", ["image-manifest=false", "image-manifest=false,oci-mediatypes=false", "compression=zstd"]
)
def test_a_cache_can_have_each_form(engine: Engine, other: Engine, base: str, tmp_path: Path, attributes: str) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /{attributes}\n")
    place = base.replace("/base", "/cache:form")

    first = _build(engine, context, "--cache-to", f"type=registry,ref={place},{attributes}")
    second = _build(other, context, "--cache-from", place)

    assert second.cached == [f"registry {place}"] and first.image == second.image


def test_a_cache_in_a_directory_serves_elsewhere(engine: Engine, other: Engine, base: str, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", STAGES.format(base=base))
    directory = tmp_path / "cache"  # not of the context
    to, source = f"type=local,dest={directory},mode=max", f"type=local,src={directory}"

    missing = engine.boxship("build", "--progress=plain", "--cache-from", source, "--cache-to", to, context)
    first = _build(engine, context)
    (directory / "beside").write_text("not ours")
    second = _build(other, context, "--cache-from", source)

    assert f"WARN: local cache import at {directory} not found" in missing.stderr
    assert second.made == 0 and second.cached == ["local"] * 7, second.warnings
    assert first.image == second.image
    assert not (tmp_path / "c/index.json").exists()


def test_a_directory_keeps_its_other_tags_and_no_blob_that_nothing_names(
    engine: Engine, base: str, tmp_path: Path
) -> None:
    directory = tmp_path / "cache"

    def export(tag: str, text: str) -> None:
        context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /{text}\n")
        _build(engine, context, "--cache-to", f"type=local,dest={directory},tag={tag}")

    export("a", "one")
    alone = sorted((directory / "blobs/sha256").iterdir())
    export("b", "two")
    both = sorted((directory / "blobs/sha256").iterdir())
    export("a", "three")
    index = json.loads((directory / "index.json").read_text())

    assert [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]] == ["b", "a"]
    assert len(alone) == 3 and len(both) == 6
    assert len(list((directory / "blobs/sha256").iterdir())) == 6
    assert not set(alone) & set((directory / "blobs/sha256").iterdir())


def test_a_cache_inside_an_image_serves_from_the_registry_and_from_here(
    engine: Engine, other: Engine, base: str, tmp_path: Path
) -> None:
    context = _context(tmp_path / "c", STAGES.format(base=base).replace("date +%s%N", "echo 2"))
    name = base.replace("/base", "/app:inline")

    first = _build(engine, context, "-t", name, "--cache-to", "type=inline")
    engine.docker("push", name)
    again = _build(engine, context, "-t", name, "--cache-to", "type=inline")
    from_registry = _build(other, context, "--cache-from", name)
    other.docker("pull", name)
    other.docker("builder", "prune", "--all", "--force")
    from_image = _build(other, context, "--cache-from", name)

    assert first.image == again.image and again.made == 0
    assert from_registry.cached.count(f"registry {name}") == 5
    assert from_image.cached.count(f"image {name}") == 5
    assert engine.docker("images", "-q", "--no-trunc", "--filter", "dangling=true").stdout.find(first.image) < 0


MOUNT = """\
FROM {base}
RUN --mount=type=cache,id={id},target=/k,uid=7,mode=0710 \
  echo {line} >> /k/log; mkdir -p /k/d; echo x > /k/d/.wh.x; chown 7:8 /k/d; chmod 2750 /k/d; ln -sf log /k/link; \
  cat /k/log; stat -c '%n %u:%g %a' /k /k/d /k/d/.wh.x
"""


@pytest.mark.row("BLD-10")
def test_cache_mounts_travel_with_their_files(engine: Engine, other: Engine, base: str, tmp_path: Path) -> None:
    directory = tmp_path / "cache"

    def said(builder: Engine, line: str, *flags: str) -> str:
        context = _context(tmp_path / "c", MOUNT.format(base=base, id="travels", line=line))
        return builder.boxship("build", "--progress=plain", *flags, context).stderr

    said(engine, "one", "--cache-to", f"type=local,dest={directory},mounts=true")
    second = said(other, "two", "--cache-from", f"type=local,src={directory}")
    third = said(other, "three", "--cache-from", f"type=local,src={directory}")

    lines = [line.partition(" ")[2].partition(" ")[2] for line in second.splitlines() if line.startswith("#")]
    assert lines[lines.index("one") :][:5] == ["one", "two", "/k 7:0 710", "/k/d 7:8 2750", "/k/d/.wh.x 0:0 644"]
    assert " one\n" in third and " two\n" in third and " three\n" in third  # the engine's own is not replaced


def test_owners_of_cache_mounts_are_the_containers_own_in_another_user_namespace(
    engine: Engine, tmp_path: Path
) -> None:
    if not Path("/etc/subuid").exists() or not Path("/etc/subgid").exists():
        pytest.skip("the host has no /etc/subuid that could be covered")
    directory, first = tmp_path / "cache", 300_000
    context = _context(tmp_path / "c", MOUNT.format(base="busybox", id="mapped", line="one"))
    _build(engine, context, "--cache-to", f"type=local,dest={directory},mounts=true")
    remapped = Engine(options=["--userns-remap=default"], namespace=engine.namespace)
    remapped.wrapper = with_accounts(remapped.root / "etc", first=first)
    try:
        remapped.start()
        import_busybox(remapped)
        context = _context(tmp_path / "c", MOUNT.format(base="busybox", id="mapped", line="two"))
        said = remapped.boxship(
            "build", "--progress=plain", "--cache-from", f"type=local,src={directory}", context
        ).stderr
        (mount,) = remapped.data_root.glob("**/build/caches/*")
        owners = [(path.stat().st_uid - first, path.stat().st_gid - first) for path in (mount / "d", mount / "d/.wh.x")]
    finally:
        remapped.close()

    assert " one\n" in said and " two\n" in said and " /k/d 7:8 2750\n" in said, said
    assert owners == [(7, 8), (0, 0)]


def test_cache_mounts_stay_unless_asked_for_and_when_they_are_too_large(
    engine: Engine, base: str, tmp_path: Path
) -> None:
    context = _context(tmp_path / "c", MOUNT.format(base=base, id="stays", line="one"))
    place = base.replace("/base", "/cache:stays")

    without = _build(engine, context, "--cache-to", place)
    large = _build(engine, context, "--cache-to", f"type=registry,ref={place},mounts=true,mounts-limit=2b")

    assert not without.warnings
    assert large.warnings == ["cache export: cache mount stays has 9 bytes, more than 2"]


def test_a_source_that_cannot_be_had_is_a_warning(engine: Engine, base: str, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /unreachable\n")
    nowhere = "localhost:1/cache:x"

    built = _build(engine, context, "--cache-from", f"type=registry,ref={nowhere}")
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /unknown\n")
    unknown = _build(engine, context, "--cache-from", base.replace("/base", "/nothing"))

    assert built.made == 1 and len(built.warnings) == 1 and nowhere in built.warnings[0]
    assert len(unknown.warnings) == 1 and "not found" in unknown.warnings[0]


def test_a_target_that_cannot_be_had_fails_the_build_unless_it_says_otherwise(
    engine: Engine, base: str, tmp_path: Path
) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /no-target\n")
    to = "type=registry,ref=localhost:1/cache:x"

    failed = engine.boxship("build", "-t", "kept", "--cache-to", to, context, check=False)
    ignored = _build(engine, context, "--cache-to", f"{to},ignore-error=true")

    assert failed.returncode == 1 and "localhost:1" in failed.stderr
    assert engine.docker("image", "inspect", "kept").returncode == 0
    assert ignored.image and ignored.warnings[0].startswith("cache export: localhost:1/cache:x: ")


def test_layers_come_when_a_step_needs_them(engine: Engine, other: Engine, base: str, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /first\nCOPY g /second\n")
    (tmp_path / "c/g").write_text("second\n")
    directory = tmp_path / "cache"
    _build(engine, context, "--cache-to", f"type=registry,ref={base.replace('/base', '/cache:lazy')}")
    _build(engine, context, "--cache-to", f"type=local,dest={directory}")
    manifest = json.loads((directory / "index.json").read_text())["manifests"][0]["digest"]
    layers = json.loads((directory / "blobs" / manifest.replace(":", "/")).read_text())["layers"]
    (tmp_path / "c/g").write_text("changed\n")

    built = _build(other, context, "--cache-from", base.replace("/base", "/cache:lazy"))

    here = [(other.data_root / "content/blobs" / layer["digest"].replace(":", "/")).exists() for layer in layers]
    assert built.made == 1 and len(built.cached) == 1
    assert here == [True, False]


def test_a_docker_registry_takes_caches_and_gives_them_back(
    engine: Engine, other: Engine, base: str, tmp_path: Path
) -> None:
    try:
        peer = PeerRegistry(engine.namespace)
    except RuntimeError as exc:
        pytest.skip(str(exc))
    try:
        for form in ("mode=max", "image-manifest=false,oci-mediatypes=false"):
            context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /{form}\n")
            place = f"{peer.host}/cache:{form.partition('=')[0]}"
            _build(engine, context, "--cache-to", f"type=registry,ref={place},mounts=true,{form}")
            assert _build(other, context, "--cache-from", place).cached == [f"registry {place}"]
    finally:
        peer.close()


def test_a_registry_that_lost_a_layer_costs_a_step(
    engine: Engine, other: Engine, registry: RegistryServer, base: str, tmp_path: Path
) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /lost\n")
    place = base.replace("/base", "/cache:lost")
    before = {path for path in (registry.root / "blobs").glob("*/*/*") if path.is_file()}
    _build(engine, context, "--cache-to", place)
    for blob in {path for path in (registry.root / "blobs").glob("*/*/*") if path.is_file()} - before:
        if blob.read_bytes()[:1] != b"{":
            blob.write_bytes(bytes(blob.stat().st_size))

    built = _build(other, context, "--cache-from", place)

    assert built.made == 1 and len(built.warnings) == 1 and f"registry {place}" in built.warnings[0]
    assert other.docker("run", "--rm", built.image, "cat", "/lost").stdout == "file\n"


def test_what_is_no_name_is_passed_over_by_the_classic_api(engine: Engine, base: str, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /classic\n")

    done = subprocess.run(
        [*engine.namespace.prefix(), "docker", "build", "--cache-from", "type=registry,ref=x", context],
        env={**engine.client_environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0 and "Successfully built" in done.stdout, done.stderr


def _damaged(data: bytes, damage: str) -> bytes:
    match damage:
        case "shorter":
            return data[:-1]
        case "other bytes":
            return data[:-1] + bytes([data[-1] ^ 1])
    return bytes(len(data))


def test_a_damaged_layer_is_a_step_to_carry_out(engine: Engine, other: Engine, base: str, tmp_path: Path) -> None:
    context = _context(tmp_path / "c", f"FROM {base}\nCOPY f /copied\n")
    directory = tmp_path / "cache"
    source = f"type=local,src={directory}"
    _build(engine, context, "--cache-to", f"type=local,dest={directory}")
    manifest = json.loads((directory / "index.json").read_text())["manifests"][0]["digest"]
    layer = json.loads((directory / "blobs" / manifest.replace(":", "/")).read_text())["layers"][0]["digest"]
    blob = directory / "blobs" / layer.replace(":", "/")
    data = blob.read_bytes()

    for damage in ("shorter", "other bytes", "no gzip"):
        blob.write_bytes(_damaged(data, damage))
        built = _build(other, context, "-t", "copied", "--cache-from", source)
        assert built.made == 1 and len(built.warnings) == 1 and "local" in built.warnings[0], damage
        other.docker("rmi", "copied")
        other.docker("builder", "prune", "--all", "--force")
    blob.unlink()
    built = _build(other, context, "--cache-from", source)

    assert built.made == 1 and len(built.warnings) == 1
    assert other.docker("run", "--rm", built.image, "cat", "/copied").stdout == "file\n"
    assert other.boxship("system", "fsck").stdout == "nothing is wrong\n"
