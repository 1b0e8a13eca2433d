"""Tags of spans: what users say, and what Envoy would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from crds import proxy_annotation, span_tags
from crds.key import ConfigKey
from crds.span_tags import Source, Tag
from crds.tracing_provider import CustomTag

KEY = ConfigKey("", "Pod", "default", "a")


def said(**tags: dict[str, Any]) -> dict[str, CustomTag]:
    return {name: CustomTag.model_validate(tag) for name, tag in tags.items()}


def test_tags_come_from_four_places_and_stand_by_name() -> None:
    tags = said(
        d={"formatter": {"value": "%REQ(:path)%"}},
        c={"header": {"name": "x-a", "defaultValue": "none"}},
        b={"environment": {"name": "A"}},
        a={"literal": {"value": "x"}},
    )
    assert span_tags.read(tags) == (
        Tag(name="a", source=Source.LITERAL, value="x"),
        Tag(name="b", source=Source.ENVIRONMENT, value="A"),
        Tag(name="c", source=Source.HEADER, value="x-a", default="none"),
        Tag(name="d", source=Source.FORMATTER, value="%REQ(:path)%"),
    )
    assert list(span_tags.problems(tags)) == []


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        ({}, "says neither a value nor where to find one"),
        ({"literal": {"value": ""}}, "says neither a value nor where to find one"),
        ({"environment": {"defaultValue": "x"}}, "says neither a value nor where to find one"),
        ({"header": {"name": "x y"}}, "'x y' is no name of a header"),
        ({"formatter": {"value": "50%"}}, "has a % that begins no operator (%% is one)"),
        ({"formatter": {"value": "%NONSENSE%"}}, "Envoy knows no operator %NONSENSE%"),
        ({"formatter": {"value": "%DURATION(a)%"}}, "Envoy knows no operator %DURATION(a)%"),
        ({"formatter": {"value": "%REQ%"}}, "Envoy knows no operator %REQ%"),
    ],
)
def test_a_tag_that_envoy_would_refuse_is_left_out_and_told(tag: dict[str, Any], problem: str) -> None:
    tags = said(wrong=tag, right={"literal": {"value": "x"}})
    assert [one.name for one in span_tags.read(tags)] == ["right"]
    assert list(span_tags.problems(tags)) == [("wrong", problem)]


@pytest.mark.parametrize("text", ["100%% of %REQ(X-A?:path):7%", "%START_TIME(%s)%", "plain"])
def test_formats_may_hold_text(text: str) -> None:
    assert not list(span_tags.problems(said(a={"formatter": {"value": text}})))


def test_a_tag_has_a_name() -> None:
    assert list(span_tags.problems({"": CustomTag.model_validate({"literal": {"value": "x"}})})) == [
        ("", "a tag has no name")
    ]


def test_an_annotation_is_checked_too() -> None:
    text = "tracing: {customTags: {a: {header: {}}, b: {literal: {value: x}}}}"
    (one,) = proxy_annotation.check(text, KEY)
    assert (one.code.name, one.field) == ("BAD_VALUE", f"{proxy_annotation.FIELD}.tracing.customTags[a]")
