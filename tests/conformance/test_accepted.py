import pytest

from conformance import accepted, difference, groups, run

ROW = """
[[accepted]]
group = "scenarios"
case = "bookinfo-.*"
field = 'cluster\\[\\d+\\]\\.alpn'
wanted = '"a"'
reason = "chosen"
"""


@pytest.mark.parametrize(
    ("group", "case", "field", "wanted", "covered"),
    [
        ("scenarios", "bookinfo-x", "cluster[0].alpn", "a", True),
        ("scenarios", "bookinfo-x", "cluster[0].alpn", "b", False),
        ("scenarios", "bookinfo-x", "cluster[0].alpn.more", "a", False),
        ("scenarios", "apps", "cluster[0].alpn", "a", False),
        ("xds", "bookinfo-x", "cluster[0].alpn", "a", False),
    ],
)
def test_a_row_covers_what_all_its_patterns_match_whole(
    group: str, case: str, field: str, wanted: str, *, covered: bool
) -> None:
    (row,) = accepted.read(ROW)
    assert row.covers(group, case, difference.of("anywhere", field, wanted, "anything")) is covered


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[accepted", "accepted.toml: "),
        ('[[accepted]]\ngroup = "x"', "row 1 of accepted.toml lacks field, reason"),
        (ROW + 'other = "x"', "row 1 of accepted.toml has other"),
        (ROW + "given = '('", "row 1 of accepted.toml: "),
    ],
)
def test_a_bad_table_is_named(text: str, said: str) -> None:
    with pytest.raises(accepted.TableError, match=said):
        accepted.read(text)


def test_every_row_of_the_table_has_a_reason_and_names_groups_that_exist() -> None:
    for row in accepted.table():
        assert row.reason
        assert any(row.group.fullmatch(name) for name in groups.BY_NAME), row


def test_differences_are_sorted_by_the_table() -> None:
    chosen = difference.of("", "node.metadata.PILOT_SAN[0]", "a", "b")
    other = difference.of("", "node.metadata.OTHER", "a", "b")
    left, rows = run.sort("bootstrap", "any", [chosen, other])
    assert left == [other]
    assert [accepted.table()[row].reason for row in rows] == ["istiod is known by its DNS name"]
