from __future__ import annotations

import pytest

from istiod.mesh import hosts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.other", "reviews.other"),
        ("*", "*"),
        ("*.com", "*.com"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_only_a_name_without_a_dot_is_completed(name: str, expected: str) -> None:
    assert hosts.resolve(name, "shop", "cluster.local") == expected


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("a.com", "a.com", True),
        ("a.com", "b.com", False),
        ("*", "a.com", True),
        ("*.com", "a.com", True),
        ("*.com", "*.b.com", True),
        ("*.a.com", "a.com", False),
    ],
)
def test_patterns_hold_hosts_by_suffix(pattern: str, host: str, *, expected: bool) -> None:
    assert hosts.matches(pattern, host) is expected


def test_the_longest_pattern_wins_and_an_exact_name_over_all() -> None:
    assert hosts.most_specific(["*", "*.com", "*.a.com"], "x.a.com") == "*.a.com"
    assert hosts.most_specific(["x.a.com", "*.x.a.com.long"], "x.a.com") == "x.a.com"
    assert hosts.most_specific(["*.org"], "x.a.com") is None
