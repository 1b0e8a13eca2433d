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
    (row,) = accepted.read(ROW).rows
    assert row.covers(group, case, difference.of("anywhere", field, wanted, "anything")) is covered


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[accepted", "accepted.toml: "),
        ('[[accepted]]\ngroup = "x"', "a row of accepted .* lacks field, reason"),
        (ROW + 'other = "x"', "a row of accepted .* has other"),
        (ROW + "given = '('", "unterminated subpattern"),
        ('[[left_out]]\ngroup = "x"\nreason = "y"', "a row of left_out .* lacks case"),
    ],
)
def test_a_bad_table_is_named(text: str, said: str) -> None:
    with pytest.raises(accepted.TableError, match=said):
        accepted.read(text)


def test_a_case_that_cannot_be_fed_is_left_out_by_name() -> None:
    found = accepted.read('[[left_out]]\ngroup = "xds"\ncase = "one|two"\nreason = "because"')
    assert [found.runs("xds", "one"), found.runs("xds", "three"), found.runs("simulation", "one")] == [
        False,
        True,
        True,
    ]


def test_every_row_of_the_table_has_a_reason_and_names_groups_that_exist() -> None:
    table = accepted.table()
    rows = [(row.group, row.reason) for row in table.rows] + [(row.group, row.reason) for row in table.left_out]
    for group, reason in rows:
        assert reason
        assert any(group.fullmatch(name) for name in groups.BY_NAME), group


def test_differences_are_sorted_by_the_table() -> None:
    chosen = difference.of("", "node.metadata.PILOT_SAN[0]", "a", "b")
    other = difference.of("", "node.metadata.OTHER", "a", "b")
    left, rows = run.sort("bootstrap", "any", [chosen, other])
    assert left == [other]
    assert [accepted.table().rows[row].reason for row in rows] == ["istiod is known by its DNS name"]
