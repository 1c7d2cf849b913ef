"""Builds by other programs: the Docker SDK for Python."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from harness.engine import Engine

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # sockets that the SDK forgets
]


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=f"unix://{engine.socket}")
    yield client
    client.close()
    gc.collect()


def test_a_directory_with_all_that_the_sdk_passes_on(client: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text("no")
    (tmp_path / ".dockerignore").write_text("ignored\n")
    (tmp_path / "own.dockerfile").write_text(
        "FROM base AS first\nARG WHO\nCOPY . /context\nRUN echo $WHO > /who && cat /etc/hosts > /hosts\nFROM scratch\n"
    )
    image, log = client.images.build(
        path=str(tmp_path),
        dockerfile="own.dockerfile",
        tag="sdk:1",
        buildargs={"WHO": "sdk"},
        labels={"made-by": "sdk"},
        target="first",
        nocache=True,
        rm=True,
        forcerm=True,
        extra_hosts={"elsewhere": "10.9.8.7"},
        container_limits={"memory": 64 << 20, "cpushares": 512},
        network_mode="none",
        shmsize=1 << 20,
    )
    text = "".join(message.get("stream", "") for message in log)
    assert image.tags == ["sdk:1"] and image.labels == {"made-by": "sdk"}
    assert "Step 4/5 : RUN echo $WHO > /who" in text and f"Successfully built {image.short_id[7:]}" in text
    seen = client.containers.run(image, ["sh", "-c", "cat /who /hosts; ls /context"], remove=True).decode()
    assert seen.startswith("sdk\n") and "10.9.8.7\telsewhere" in seen and "ignored" not in seen


def test_a_dockerfile_alone_and_an_archive_of_ones_own(client: docker.DockerClient) -> None:
    image, _ = client.images.build(fileobj=io.BytesIO(b"FROM base\nENV A=b\n"), tag="sdk:file")
    assert "A=b" in image.attrs["Config"]["Env"]


def test_a_failure_is_the_sdks_own(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.BuildError) as raised:
        client.images.build(fileobj=io.BytesIO(b"FROM base\nRUN echo last words; exit 9\n"))
    assert raised.value.msg == "The command '/bin/sh -c echo last words; exit 9' returned a non-zero code: 9"
    assert any("last words" in message.get("stream", "") for message in raised.value.build_log)
    with pytest.raises(docker.errors.APIError, match="dockerfile parse error line 1: unknown instruction: FORM"):
        client.images.build(fileobj=io.BytesIO(b"FORM base\n"))


def test_the_cache_can_be_removed(client: docker.DockerClient) -> None:
    client.images.build(fileobj=io.BytesIO(b"FROM base\nRUN echo kept > /kept\n"), tag="sdk:kept")
    assert client.api.prune_builds()["SpaceReclaimed"] >= 0


@pytest.mark.row("IMG-12")
def test_what_a_later_layer_removes_still_weighs(client: docker.DockerClient) -> None:
    def size(*steps: str) -> int:
        text = "FROM base\n" + "".join(f"RUN {step}\n" for step in steps)
        return int(client.images.build(fileobj=io.BytesIO(text.encode()))[0].attrs["Size"])

    fill, clean = "head -c 4000000 /dev/urandom > /big", "rm /big"
    full = size(fill)
    assert size(fill, clean) >= full
    assert size(f"{fill} && {clean}") < full - 3_900_000
