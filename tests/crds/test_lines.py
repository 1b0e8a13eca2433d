import pytest

from crds import lines
from crds.text import Chunk, UnreadableError


def test_json_files_are_one_document_with_lines() -> None:
    content = '{\n "kind": "X",\n "spec": {"a": "\\ud83d\\ude00",\n "b": [1]}}\n---'
    chunk = Chunk(0, content.removesuffix("\n---"))
    assert [item.line for item in lines.split("a.json", content)] == [0]
    assert list(lines.split("a.json", " \n")) == []
    assert lines.load("a.json", chunk) == {"kind": "X", "spec": {"a": "\U0001f600", "b": [1]}}
    plain = Chunk(0, '{\n"a": 1,\n"b": 2}')
    assert lines.find(plain) == {"": 2, "a": 2, "b": 3}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{\n"a": }', 1),
        ('{"a": 1, "a": 2}', 0),
        ('{"a": NaN}', 0),
        ("[" * 200_000, 0),
        ("[" * 101 + "]" * 101, 0),
        ('{"a":' * 600 + "1" + "}" * 600, 0),
        ('{"a": "\\ud83d"}', 0),
        ('{"\\ude00": 1}', 0),
    ],
)
def test_json_that_cannot_be_read_is_refused(content: str, line: int) -> None:
    with pytest.raises(UnreadableError) as caught:
        lines.load("a.json", Chunk(0, content))
    assert caught.value.line == line


def test_json_that_is_no_yaml_has_the_line_of_its_start_only() -> None:
    assert lines.find(Chunk(4, '{"a": "\\ud83d\\ude00"}')) == {"": 5}


def test_yaml_files_split_and_load() -> None:
    assert [lines.load("a.yaml", chunk) for chunk in lines.split("a.yaml", "a: 1\n---\nb: 2")] == [{"a": 1}, {"b": 2}]


def test_lists_unroll_with_their_paths() -> None:
    typed = {"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "p"}}, 3]}
    document = {"kind": "List", "apiVersion": "v1", "items": [{"kind": "A"}, typed]}
    assert list(lines.unroll(document)) == [
        ("items[0]", {"kind": "A"}),
        ("items[1].items[0]", {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}),
        ("items[1].items[1]", 3),
    ]
    assert list(lines.unroll({"kind": "Service"})) == [("", {"kind": "Service"})]
    assert list(lines.unroll(None)) == [("", None)]


def test_the_nearest_parent_stands_in_for_a_field_without_line() -> None:
    index = lines.find(Chunk(9, "---\nkind: List\nitems:\n- spec:\n    http:\n    - route: []\n"))
    assert lines.nearest(index, "items[0]", "spec.http[0].route[3].weight") == 15
    assert lines.nearest(index, "items[0]", "spec.http[1]") == 14
    assert lines.nearest(index, "items[0]", "") == 13
    assert lines.nearest(index, "items[0]", "metadata.name") == 13
    assert lines.nearest(index, "", "metadata") == 11
    assert lines.nearest(index, "items", "[0].spec") == 13
