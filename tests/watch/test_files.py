import pytest

from crds.diagnostic import Code, Position, Severity
from crds.key import ConfigKey
from istiod.watch import files
from istiod.watch.files import Change, FileSet


def service(name: str, port: object = 80) -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n"


def key(name: str) -> ConfigKey:
    return ConfigKey("", "Service", "default", name)


class Source:
    """A FileSet, and what a store that follows it would hold."""

    def __init__(self) -> None:
        self.files = FileSet()
        self.held: dict[ConfigKey, int] = {}

    def put(self, path: str, *documents: str, content: bytes | None = None) -> Change:
        text = "---\n".join(documents).encode() if content is None else content
        return self._follow(self.files.put(files.read(path, text, self.files.get(path))))

    def drop(self, path: str) -> Change:
        return self._follow(self.files.drop(path))

    def _follow(self, change: Change) -> Change:
        for item in change.applied:
            self.held[item.key] = item.model_dump()["spec"]["ports"][0]["port"]
        for gone in change.removed:
            del self.held[gone]
        return change

    @property
    def ports(self) -> dict[str, int]:
        return {held.name: port for held, port in self.held.items()}

    @property
    def codes(self) -> list[tuple[Code, str]]:
        return [(finding.code, str(finding.position)) for finding in self.files.diagnostics]


@pytest.fixture
def source() -> Source:
    return Source()


def test_objects_come_and_go_with_their_documents(source: Source) -> None:
    source.put("a.yaml", service("one"), service("two"), "# nothing\n")
    assert source.ports == {"one": 80, "two": 80}
    change = source.put("a.yaml", service("two", 81))
    assert (len(change.applied), change.removed) == (1, (key("one"),))
    assert source.ports == {"two": 81}
    assert source.put("a.yaml", service("two", 81)) == Change()
    source.drop("a.yaml")
    assert source.ports == {}
    assert source.drop("a.yaml") == Change()
    assert source.codes == []
    assert list(source.files.paths()) == []


def test_an_unchanged_document_is_not_parsed_again(source: Source) -> None:
    first = source.put("a.yaml", "", service("one"), service("two")).applied
    assert source.put("a.yaml", "# moved\n", service("one"), service("two", 81)).applied[0].key == key("two")
    state = source.files.get("a.yaml")
    assert state is not None
    assert state.entries[0].object is first[0]


def test_a_bad_document_keeps_its_last_good_version(source: Source) -> None:
    source.put("a.yaml", service("one"), service("two"))
    source.put("a.yaml", service("one", "x"), service("two", 82))
    assert source.ports == {"one": 80, "two": 82}
    (finding,) = source.files.diagnostics
    assert (finding.code, finding.field, finding.key) == (Code.BAD_VALUE, "spec.ports[0].port", key("one"))
    assert str(finding.position) == "a.yaml:7"
    assert finding.message.endswith("its last good version keeps serving")
    source.put("a.yaml", "# moved\n" + service("one", "x"), service("two", 82))
    assert source.codes == [(Code.BAD_VALUE, "a.yaml:8")]
    assert source.ports == {"one": 80, "two": 82}
    source.put("a.yaml", service("two", 82))
    assert source.ports == {"two": 82}


def test_a_bad_document_without_a_good_version_serves_nothing_and_hides_nothing(source: Source) -> None:
    source.put("a.yaml", service("one", "x"), "3\n", "kind: x\n", service("two"))
    assert source.ports == {"two": 80}
    assert [code for code, _ in source.codes] == [Code.BAD_VALUE, Code.NOT_AN_OBJECT, Code.NOT_AN_OBJECT]
    assert "keeps serving" not in source.files.diagnostics[0].message
    source.put("a.yaml", service("one", "y"))
    assert source.ports == {}


def test_objects_without_a_name_are_named_after_their_kind_and_place(source: Source) -> None:
    bare = service("x").replace("  name: x\n", "  labels: {}\n")
    pod = "apiVersion: v1\nkind: Service\nmetadata: {generateName: web-}\nspec: {ports: [{port: 9}]}\n"
    applied = source.put("a.yaml", service("one"), bare, bare, pod, "apiVersion: apps/v1\nkind: Lease\n").applied
    named = [item.key.name for item in applied]
    assert [name.rpartition("-")[0] for name in named[1:]] == ["unnamed-service-1", "unnamed-service-2", "web-1"]
    assert source.codes == [(Code.MISSING_FIELD, f"a.yaml:{line}") for line in (11, 19, 27)]
    assert {finding.severity for finding in source.files.diagnostics} == {Severity.WARNING}
    assert source.put("a.yaml", service("one"), bare, bare, pod).removed == ()
    other = source.put("b.yaml", bare).applied
    assert other[0].key.name not in named
    assert len(source.ports) == 5


def test_a_file_that_cannot_be_read_as_a_whole_loses_nothing(source: Source) -> None:
    source.put("a.yaml", service("one"), service("two"))
    source.put("a.yaml", service("two", 81), "metadata: [\n")
    assert source.ports == {"one": 80, "two": 81}
    assert source.codes == [(Code.UNREADABLE, "a.yaml:10")]
    source.put("a.yaml", content=b"\xff\xfe")
    source.put("a.yaml", content=b" " * (files.LARGEST + 1))
    assert source.codes == [(Code.FILE_TOO_LARGE, "a.yaml:1")]
    assert source.ports == {"one": 80, "two": 81}
    assert source.files.position(key("one"), "spec") == Position(file="a.yaml", line=1)
    source.put("a.yaml", service("two", 81))
    assert source.ports == {"two": 81}
    assert source.codes == []


def test_a_new_file_that_cannot_be_read_is_reported(source: Source) -> None:
    source.put("a.yaml", content=b"\xff\xfe")
    assert source.codes == [(Code.UNREADABLE, "a.yaml:1")]
    assert source.put("b.yaml", content="﻿".encode() + service("one").encode()).applied[0].key == key("one")


def test_the_first_of_two_serves_and_the_other_takes_over(source: Source) -> None:
    source.put("b.yaml", service("one", 2))
    assert source.ports == {"one": 2}
    source.put("a.yaml", service("one", 1), service("one", 3))
    assert source.ports == {"one": 1}
    assert source.codes == [(Code.DUPLICATE_OBJECT, "a.yaml:9"), (Code.DUPLICATE_OBJECT, "b.yaml:1")]
    assert {finding.severity for finding in source.files.diagnostics} == {Severity.WARNING}
    assert "a.yaml:1" in source.files.diagnostics[0].message
    source.put("a.yaml", service("one", 3))
    assert source.ports == {"one": 3}
    source.drop("a.yaml")
    assert source.ports == {"one": 2}
    assert source.codes == []


def test_a_good_version_elsewhere_serves_where_the_first_was_never_good(source: Source) -> None:
    source.put("a.yaml", service("one", "x"))
    source.put("b.yaml", service("one", 2))
    assert source.ports == {"one": 2}
    source.put("b.yaml", service("one", "y"))
    source.drop("b.yaml")
    source.put("c.yaml", service("one", "z"))
    assert source.ports == {}
    assert source.codes == [(Code.BAD_VALUE, "a.yaml:7"), (Code.BAD_VALUE, "c.yaml:7")]


def test_lists_unroll(source: Source) -> None:
    source.put(
        "a.yaml",
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: one}, spec: {ports: [{port: 5}]}}\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: two},\n   spec: {ports: [{port: x}]}}\n",
    )
    assert source.ports == {"one": 5}
    assert source.codes == [(Code.BAD_VALUE, "a.yaml:6")]
    assert source.files.position(key("one"), "spec.ports[0]") == Position(file="a.yaml", line=4)


def test_fields_have_positions(source: Source) -> None:
    source.put("a.yaml", "# text\n", service("one"))
    assert source.files.position(key("one"), "spec.ports[0].port") == Position(file="a.yaml", line=9)
    assert source.files.position(key("one"), "spec.ports[0].name") == Position(file="a.yaml", line=9)
    assert source.files.position(key("one")) == Position(file="a.yaml", line=3)
    assert source.files.position(key("two")) is None
    source.put("a.yaml", service("one", "x"))
    assert source.files.position(key("one"), "spec") == Position(file="a.yaml", line=5)
    source.put("b.yaml", service("two", "x"))
    assert source.files.position(key("two"), "spec") == Position(file="b.yaml", line=5)


def test_a_policy_that_cannot_be_read_refuses_until_it_can() -> None:
    head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: a\nspec:\n"
    bad, worse, good = "  action: DENY\n", "  action: DENY\n  rules: 1\n", "  rules: [{}]\n"
    first = files.read("a.yaml", (head + bad).encode(), None)
    (entry,) = first.entries
    assert entry.object is not None
    assert [found.message.rpartition("; ")[2] for found in first.diagnostics] == [
        "until it can be read, the workloads that it selects refuse what it might forbid"
    ]
    again = files.read("a.yaml", (head + worse).encode(), first)
    assert again.entries[0].closed
    mended = files.read("a.yaml", (head + good).encode(), again)
    assert not mended.entries[0].closed
    broken = files.read("a.yaml", (head + worse).encode(), mended)
    assert broken.entries[0].object is mended.entries[0].object
    assert broken.diagnostics[0].message.endswith("its last good version keeps serving")
