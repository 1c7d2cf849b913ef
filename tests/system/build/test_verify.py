"""``image verify``, and images that are the same wherever they are built."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine import Engine
from harness.images import import_busybox

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

EPOCH = "SOURCE_DATE_EPOCH=1700000000"
DOCKERFILE = """\
FROM base AS builder
ARG COLOUR=red
WORKDIR /work
COPY src /work/src
RUN cat src/* > all && echo $COLOUR > colour && mkdir -m 750 private && ln -s all link && ln all again
FROM base
COPY --from=builder /work /work
COPY . /context
RUN touch /here && mkdir /made
LABEL version=1
FROM scratch AS files
COPY --from=builder /work/all /
"""
NAMES = ("b", "a", "Z", "ä", "10", "9", "_")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.start()
        import_busybox(engine, "base")
        yield engine
    finally:
        engine.close()


def make(directory: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Make the context, its files in the order of ``names``."""
    (directory / "src").mkdir(parents=True)
    directory.chmod(0o755)
    for name in names:
        (directory / "src" / name).write_text(f"the file {name}\n")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "project")


def verify(engine: Engine, *words: str) -> subprocess.CompletedProcess[str]:
    return engine.boxship("image", "verify", "--progress=quiet", *words, check=False)


def images(engine: Engine) -> set[str]:
    return set(engine.docker("images", "-aq", "--no-trunc").stdout.split())


def test_an_image_whose_provenance_tells_how_it_was_made_is_found_identical(engine: Engine, project: Path) -> None:
    (project / "Dockerfile").rename(project / "Other.Dockerfile")
    words = (
        "-f",
        str(project / "Other.Dockerfile"),
        "--target",
        "1",
        "--build-arg",
        EPOCH,
        "--build-arg",
        "COLOUR=blue",
    )
    engine.boxship("build", "--provenance=mode=max", "--label", "who=we", "-t", "told", *words, str(project))
    before = images(engine)
    found = verify(engine, "told", str(project))
    assert (found.returncode, "told is identical to what is built now" in found.stdout) == (0, True), found
    assert "--build-arg COLOUR=blue" in found.stderr and "--target 1" in found.stderr
    assert images(engine) == before


def test_the_first_file_that_differs_is_named_and_nothing_stays(engine: Engine, project: Path) -> None:
    engine.boxship("build", "--build-arg", EPOCH, "--target", "1", "-t", "app", str(project))
    before = images(engine)
    build = ("--build-arg", EPOCH, "--target", "1", "app", str(project))
    assert verify(engine, *build).returncode == 0

    (project / "src/a").write_text("another\n")
    found = verify(engine, *build)
    assert found.returncode == 1
    # /work/all is made of it in the builder's stage; the first layer of the image itself has it.
    assert "layer 2 of 4 (" in found.stdout and "/work/again: content is sha256:" in found.stdout, found.stdout
    assert images(engine) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("RUN touch /here && chmod 600 /here && mkdir /made", "/here: mode is 0644, now 0600"),
        ("RUN touch /here && chown 3:4 /here && mkdir /made", "/here: owner is 0:0, now 3:4"),
        ("RUN mkdir /here /made", "/here: type is file, now directory"),
        ("RUN mkdir /made", "/here (file) is not there now"),
        ("RUN touch /here /later && mkdir /made", "/later (file) is new"),
        (
            "RUN touch -d @1600000000 /here && mkdir /made",
            "/here: mtime is 2023-11-14T22:13:20Z, now 2020-09-13T12:26:40Z",
        ),
    ],
)
def test_what_differs_is_told(engine: Engine, project: Path, change: str, words: str) -> None:
    text = DOCKERFILE.partition("FROM scratch")[0].replace("COPY . /context\n", "")
    (project / "Dockerfile").write_text(text)
    engine.boxship("build", "--build-arg", EPOCH, "-t", "as-it-was", str(project))
    (project / "Dockerfile").write_text(text.replace("RUN touch /here && mkdir /made", change))
    found = verify(engine, "--build-arg", EPOCH, "as-it-was", str(project))
    assert found.returncode == 1
    if "mtime" not in words:
        assert words in found.stdout, found.stdout
    else:  # what history says of the step comes before times
        assert "configuration: history[" in found.stdout


def test_a_setting_that_differs_is_told_when_all_files_are_the_same(engine: Engine, project: Path) -> None:
    text = DOCKERFILE.partition("FROM scratch")[0].replace("COPY . /context\n", "")
    (project / "Dockerfile").write_text(text)
    engine.boxship("build", "--build-arg", EPOCH, "-t", "labelled", str(project))
    (project / "Dockerfile").write_text(text.replace("version=1", "version=2"))
    found = verify(engine, "--build-arg", EPOCH, "labelled", str(project))
    assert found.returncode == 1
    assert 'configuration: config.Labels.version is "1", now "2"' in found.stdout


def test_without_an_epoch_only_times_differ_and_that_is_said(engine: Engine, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM base\nRUN touch -d @1600000000 /same\nLABEL a=b\n")
    engine.boxship("build", "-t", "timed", str(project))
    found = verify(engine, "timed", str(project))
    assert found.returncode == 1 and "Only times differ" in found.stdout, found.stdout
    assert verify(engine, "--ignore-times", "timed", str(project)).returncode == 0


def test_errors_are_those_of_inspect_and_build(engine: Engine, project: Path) -> None:
    missing = verify(engine, "nobody", str(project))
    assert missing.returncode == 1 and "No such image: nobody" in missing.stderr
    engine.docker("tag", "base", "some")
    nowhere = verify(engine, "some", str(project / "nowhere"))
    assert nowhere.returncode == 1 and "unable to prepare context" in nowhere.stderr
    assert verify(engine, "some").returncode == 1


@pytest.mark.row("BLD-31")
def test_two_machines_give_the_same_digests(engine: Engine, tmp_path: Path) -> None:
    """Other data root, storage driver, umask, time zone, locale, order of files and place of the context; a Dockerfile from outside."""
    other = Engine(options=["--storage-driver=vfs"])
    other.wrapper = ["sh", "-c", 'umask 0077; exec "$@"', "sh"]
    other.environment = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "C"}
    here, there = make(tmp_path / "here"), make(tmp_path / "quite/another/place", NAMES[::-1])
    for number, path in enumerate(sorted(there.rglob("*"))):
        os.utime(path, (1_750_000_000 + number, 1_750_000_000 + number))  # after the epoch, as any checkout
    found = []
    try:
        other.start()
        tar = tmp_path / "base.tar"
        engine.docker("save", "-o", str(tar), "base")
        other.docker("load", "-i", str(tar))
        words = (
            "--build-arg",
            EPOCH,
            "--sbom=true",
            "--provenance=mode=max",
            "--target",
            "1",
            "-t",
            "same",
            "--no-cache",
        )
        for each, context in ((engine, here), (other, there)):
            each.boxship("build", *words, str(context))
            each.boxship("build", *words[:-2], "outside", "-f", "-", str(context), input=DOCKERFILE)
            for name in ("same", "outside"):
                _, document = each.api("GET", f"/images/{name}/json?manifests=1")
                found.append(
                    (name, document["Id"], [row["ID"] for row in document["Manifests"]], document["Descriptor"])
                )
        assert found[0] == found[2]
        assert found[1] == found[3]
    finally:
        other.close()


def test_the_documents_of_an_image_without_attestations_are_made_of_its_files(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "status").write_text(
        "Package: tzdata\nStatus: install ok installed\nVersion: 2024a\nArchitecture: all\n"
    )
    (tmp_path / "Dockerfile").write_text("FROM base\nCOPY status /var/lib/dpkg/status\n")
    engine.boxship("build", "-t", "plain", str(tmp_path))
    document = json.loads(engine.boxship("image", "sbom", "plain").stdout)
    assert document["spdxVersion"] == "SPDX-2.3" and document["name"] == "plain:latest"
    assert "pkg:deb/debian/tzdata@2024a?arch=all" in json.dumps(document)
    engine.boxship("build", "--sbom=true", "-t", "plain", str(tmp_path))
    assert json.loads(engine.boxship("image", "sbom", "plain").stdout) == document
    target = tmp_path / "sbom.json"
    engine.boxship("image", "sbom", "--scan", "-o", str(target), "plain")
    assert json.loads(target.read_text()) == document
    missing = engine.boxship("image", "sbom", "nobody", check=False)
    assert missing.returncode == 1 and "No such image: nobody" in missing.stderr
