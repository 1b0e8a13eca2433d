"""istioctl/output.py: columns, colours, and cells that somebody else wrote."""

from __future__ import annotations

from istioctl import output

HEADER = ("NAME", "STATUS", "NOTE")


def test_columns_are_as_wide_as_what_they_show() -> None:
    rows = [("a", "SYNCED", "\N{CJK UNIFIED IDEOGRAPH-6F22}"), ("\N{CJK UNIFIED IDEOGRAPH-6F22}" * 3, "STALE", "")]
    assert output.table(HEADER, rows, 2).splitlines() == [
        "NAME    STATUS  NOTE",
        "a       SYNCED  \N{CJK UNIFIED IDEOGRAPH-6F22}",
        "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 3 + "  STALE",
    ]
    assert output.table(HEADER, []) == "NAME     STATUS     NOTE\n"


def test_a_terminal_is_shown_what_is_well_and_what_is_not() -> None:
    rows = [("a", "SYNCED", "b"), ("c", "NOT SENT", "STALE")]
    assert output.table(HEADER, rows, 1, colour=True).splitlines() == [
        "\x1b[1mNAME \x1b[0m\x1b[1mSTATUS   \x1b[0m\x1b[1mNOTE\x1b[0m",
        "a    \x1b[32mSYNCED   \x1b[0mb",
        "c    \x1b[33mNOT SENT \x1b[0m\x1b[31mSTALE\x1b[0m",
    ]


def test_a_cell_cannot_steer_the_terminal_or_end_the_line() -> None:
    assert output.table(("NAME",), [("a\x1b[31m\nb\x9b",)]) == "NAME\na[31mb\n"
