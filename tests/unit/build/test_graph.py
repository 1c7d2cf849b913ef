"""The build graph: names by content, order, what a target needs, and the document that a client sends."""

import msgspec
import pytest

from boxship.base.errors import InvalidInput
from boxship.build import graph as g


def small() -> tuple[g.Graph, g.Vertex, g.Vertex]:
    made = g.Graph()
    scratch, context = made.add(g.vertex(g.Scratch())), made.add(g.vertex(g.Context()))
    copy = made.add(g.vertex(g.Copy(sources=("/a",), target="/b/"), [scratch, context], name="COPY a b/"))
    run = made.add(g.vertex(g.Run(args=("make",)), [copy]))
    return made, copy, run


def test_equal_operations_on_equal_inputs_are_one_vertex() -> None:
    made, copy, _ = small()
    again = g.vertex(copy.operation, [made[id] for id in copy.inputs], name="another name")
    assert again.id == copy.id
    assert made.add(again) is copy
    assert len(made) == 4


@pytest.mark.parametrize("change", [{"target": "/c/"}, {"sources": ("/b",)}, {"chmod": "755"}, {"link": True}])
def test_whatever_an_operation_is_told_counts(change: dict[str, object]) -> None:
    made, copy, _ = small()
    other = msgspec.structs.replace(copy.operation, **change)
    assert g.vertex(other, [made[id] for id in copy.inputs]).id != copy.id


def test_a_target_needs_its_inputs_and_no_more() -> None:
    made, copy, run = small()
    made.add(g.vertex(g.Download(url="http://x/y", name="y")))
    assert [each.id for each in made.needed([copy.id])] == [*copy.inputs, copy.id]
    assert made.needed([run.id])[-1] is run


def test_a_document_gives_the_graph_back() -> None:
    made, copy, _ = small()
    again = g.decode(g.encode(made))
    assert list(again) == list(made)
    assert again[copy.id].operation == copy.operation


def test_an_input_that_is_missing_late_or_renamed_is_refused() -> None:
    made, copy, run = small()
    with pytest.raises(InvalidInput, match="not in the graph"):
        g.Graph([copy])
    with pytest.raises(InvalidInput, match="comes before its input"):
        g.decode(msgspec.json.encode([run, copy]))
    with pytest.raises(InvalidInput, match="is sha256:"):
        g.decode(msgspec.json.encode([msgspec.structs.replace(made[copy.inputs[0]], id="sha256:0")]))
    with pytest.raises(InvalidInput, match="invalid build graph"):
        g.decode(b'[{"id": "x", "operation": {"op": "reboot"}}]')
