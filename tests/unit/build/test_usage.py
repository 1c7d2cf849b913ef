"""What of the cache goes, and what layers of another engine's image serve."""

from __future__ import annotations

import msgspec
import pytest

from boxship.base.errors import InvalidInput
from boxship.build.caching.adoption import adopt
from boxship.build.caching.usage import Choice, Row, choose
from boxship.images.model import Image, ImageRow, make_image
from boxship.spec.docker.build import BuildCacheItem
from boxship.spec.oci import History, ImageConfig, RootFS, encode_config


def _row(id: str, used_ns: int, size: int, **fields: bool) -> Row:
    item = msgspec.structs.replace(BuildCacheItem(id=id, size=size, description=f"RUN {id}"), **fields)
    return Row(id=id, used_ns=used_ns, is_mount=False, item=item)


ROWS = [_row("new", 30, 10), _row("old", 10, 10), _row("shared", 5, 10, shared=True), _row("used", 1, 10, in_use=True)]


def _chosen(choice: Choice) -> list[str]:
    return [row.id for row in choose(choice, ROWS, 100)]


def test_the_oldest_go_until_the_rest_fits() -> None:
    assert _chosen(Choice(reserved=25, all=True)) == ["shared", "old"]
    assert _chosen(Choice(reserved=1000)) == []


def test_what_images_share_goes_with_all_only_and_what_is_in_use_never() -> None:
    assert _chosen(Choice()) == ["old", "new"]
    assert _chosen(Choice(all=True)) == ["shared", "old", "new"]


def test_what_lies_on_a_layer_goes_before_it() -> None:
    def row(id: str, used_ns: int, *layers: str) -> Row:
        return msgspec.structs.replace(_row(id, used_ns, 10), layers=layers)

    found = [row("low", 1, "a"), row("middle", 2, "a", "b"), row("high", 3, "a", "b", "c"), row("beside", 2, "x")]

    assert [each.id for each in choose(Choice(), found, 0)] == ["beside", "high", "middle", "low"]
    assert [each.id for each in choose(Choice(max_used=20), found, 0)] == ["beside", "high"]


def test_filters_choose() -> None:
    assert _chosen(Choice.parse({"id": ["ol"]}, all=False)) == ["old"]
    assert _chosen(Choice.parse({"description": ["RUN n"]}, all=False)) == ["new"]
    assert _chosen(Choice.parse({"type": ["exec.cachemount"]}, all=True)) == []


@pytest.mark.parametrize("filters", [{"nope": ["x"]}, {"until": ["yesterday"]}, {"until": [""]}])
def test_wrong_filters_are_refused(filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidInput):
        Choice.parse(filters, all=False)


def _config(*steps: str) -> ImageConfig:
    history = [History(created_by=step.removesuffix("|"), empty_layer=step.endswith("|")) for step in steps]
    diff_ids = [f"sha256:{number:064x}" for number in range(sum(not step.endswith("|") for step in steps))]
    return ImageConfig(rootfs=RootFS(diff_ids=diff_ids), history=history)


def _image(*steps: str) -> Image:
    config = _config(*steps)
    layers = tuple(f"chain{number}" for number in range(len(config.diff_ids)))
    return make_image("sha256:1", ImageRow(config=encode_config(config).decode(), layers=layers), size=0, names=())


def test_a_step_with_the_same_words_on_the_same_layers_is_taken_over() -> None:
    image = _image("base", "ENV|", "RUN a", "RUN b", "RUN nothing|")

    found = adopt([image], _config("base", "ENV|"), ("chain0",), "RUN a")
    empty = adopt([image], _config("base", "ENV|", "RUN a", "RUN b"), ("chain0", "chain1", "chain2"), "RUN nothing")

    assert found is not None and found[0] == ("chain0", "chain1")
    assert empty is not None and empty[0] == ("chain0", "chain1", "chain2")


@pytest.mark.parametrize(
    ("below", "base", "step"),
    [
        (("base", "ENV|"), ("chain0",), "RUN other"),
        (("base",), ("chain0",), "RUN a"),
        (("base", "ENV other|"), ("chain0",), "RUN a"),
        (("base", "ENV|"), ("another",), "RUN a"),
    ],
)
def test_anything_else_is_not(below: tuple[str, ...], base: tuple[str, ...], step: str) -> None:
    assert adopt([_image("base", "ENV|", "RUN a")], _config(*below), base, step) is None
