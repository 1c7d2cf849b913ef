from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from boxship.registry.server.picture import Layer, draw, human_size

DIGEST = "sha256:" + "a" * 64


def test_bars_are_as_wide_as_their_share_and_the_first_layer_is_at_the_bottom() -> None:
    root = ET.fromstring(draw([Layer(DIGEST, 1000, "ADD"), Layer(DIGEST, 500, "RUN"), Layer(DIGEST, 0, "ENV")]))
    bars = [element for element in root.iter() if element.tag.endswith("rect")]
    widths = [int(bar.attrib["width"]) for bar in bars]
    assert widths == [3, 301, 602]
    assert [int(bar.attrib["y"]) for bar in bars] == sorted(int(bar.attrib["y"]) for bar in bars)


def test_what_was_pushed_is_text() -> None:
    root = ET.fromstring(draw([Layer(DIGEST, 1, "</title><script>alert(1)</script>")]))
    assert not [element for element in root.iter() if element.tag.endswith("script")]


def test_no_layers_are_an_empty_picture() -> None:
    assert ET.fromstring(draw([])).attrib["aria-label"] == "0 layers"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (5 * 10**12, "5 TB")]
)
def test_sizes_are_docker_s(size: int, text: str) -> None:
    assert human_size(size) == text
