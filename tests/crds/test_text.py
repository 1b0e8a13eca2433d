import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crds import text

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(_PLAIN.filter(lambda value: value is not None))
def test_what_a_yaml_writer_wrote_reads_back(value: object) -> None:
    assert text.load(yaml.safe_dump(value, default_style='"')) == value


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("~", None),
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("1_000", 1000),
        ("0755", 493),
        ("-010", -8),
        ("0o17", 15),
        ("0o", "0o"),
        ("-0O", "-0O"),
        ("0x1F", 31),
        ("0b11", 3),
        ("08", 8.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("x", "x"),
        ("9" * 500, "9" * 500),
    ],
)
def test_plain_scalars_resolve_as_kubectl_resolves_them(scalar: str, value: object) -> None:
    found = text.scalar(scalar)
    assert found == value
    assert type(found) is type(value)


def test_quotes_and_tags_decide_types() -> None:
    assert text.load("a: '1'\nb: !!str 2\nc: !!int '3'\nd: !custom 4\ne: |\n  5\n") == {
        "a": "1",
        "b": "2",
        "c": 3,
        "d": "4",
        "e": "5\n",
    }
    assert math.isclose(text.load("!!float 2"), 2)


def test_keys_are_strings_as_written() -> None:
    assert text.load("8080: a\ntrue: b\n") == {"8080": "a", "true": "b"}
    assert text.load("a: &x key\n*x : c\n") == {"a": "key", "key": "c"}


def test_merge_keys_fill_in_what_is_not_given() -> None:
    assert text.load("a: &a {x: 1, y: 2}\nb: &b {z: 3}\nc:\n  <<: [*a, *b]\n  x: 9\nd: {<<: *a}\n") == {
        "a": {"x": 1, "y": 2},
        "b": {"z": 3},
        "c": {"x": 9, "y": 2, "z": 3},
        "d": {"x": 1, "y": 2},
    }


_BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(10)
)


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("a: b: c", 0, "no YAML"),
        ("a: 1\nb: [\n", 2, "no YAML"),
        ("a: 1\nb: \x01", 1, "no YAML"),
        ("a:\n\tb: 1", 1, "tabs cannot indent"),
        ("a: 1\nb: {{ .Values.b }}\nc: 1", 1, "a template has to be rendered first"),
        ("{{- if .Values.b }}\na: 1\n{{- end }}\n", 0, "a template has to be rendered first"),
        ("a: 1\na: 2", 1, "stands twice"),
        ("? [a]\n: b", 0, "a key is a list"),
        ("x: 1\ny: *z", 1, "names nothing"),
        ("x: &x [1, *x]", 0, "names nothing"),
        ("a: 1\n<<: 3\nb: 1", 1, "no object"),
        ("[" * 200, 0, "nested deeper"),
        (_BOMB, 4, "aliases stand for"),
    ],
)
def test_what_cannot_be_read_names_its_line(content: str, line: int, reason: str) -> None:
    with pytest.raises(text.UnreadableError, match=reason) as caught:
        text.load(content)
    assert caught.value.line == line


def test_lines_are_known_for_fields_and_items() -> None:
    assert text.lines("a: 1\nb:\n- x: 2\n  y: [3,\n    4]\n- 5\nc:\n  d.e: {f: 6}\n") == {
        "a": 0,
        "b": 1,
        "b[0]": 2,
        "b[0].x": 2,
        "b[0].y": 3,
        "b[0].y[0]": 3,
        "b[0].y[1]": 4,
        "b[1]": 5,
        "c": 6,
        'c["d.e"]': 7,
        'c["d.e"].f': 7,
    }


def test_an_empty_document_is_none() -> None:
    assert text.load("") is None
    assert text.load("# nothing\n") is None


@pytest.mark.parametrize(
    ("content", "starts", "values"),
    [
        ("a: 1\n---\nb: 2\n", [0, 1], [{"a": 1}, {"b": 2}]),
        ("---\na: 1\n...\nb: 2\n", [0, 2], [{"a": 1}, {"b": 2}]),
        ("# c\n%YAML 1.1\n---\na: 1\n", [0], [{"a": 1}]),
        ("\n\n---\n--- x", [2, 3], [None, "x"]),
        ("a: |\n  ---\n  text\n", [0], [{"a": "---\ntext\n"}]),
        ("a: 1\r\n---\r\nb: 2\r\n", [0, 1], [{"a": 1}, {"b": 2}]),
        ("", [], []),
    ],
)
def test_documents_split_at_markers(content: str, starts: list[int], values: list[object]) -> None:
    chunks = list(text.split(content))
    assert [chunk.line for chunk in chunks] == starts
    assert [text.load(chunk.text) for chunk in chunks] == values


@given(st.lists(st.dictionaries(st.text(), _PLAIN, min_size=1, max_size=3), max_size=3))
def test_splitting_gives_each_document_as_it_was_written(values: list[object]) -> None:
    content = "---\n".join(yaml.safe_dump(value, default_style='"') for value in values)
    assert [text.load(chunk.text) for chunk in text.split(content)] == values
