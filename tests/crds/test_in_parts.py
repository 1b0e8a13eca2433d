"""What is read in parts is what is read at once, and what is wrong with it is found where it stands."""

from __future__ import annotations

import random
from typing import Any

import pytest

from crds import in_parts, parse, registry
from crds.destination_rule import DestinationRule
from crds.meta import Object
from crds.service_entry import ServiceEntry
from crds.virtual_service import VirtualService

TO = {"destination": {"host": "web"}}


def document(kind: str, spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": "large", "namespace": "shop"},
        "spec": spec,
    }


def routes(count: int) -> list[dict[str, Any]]:
    chance = random.Random(1)
    return [
        {
            "match": [{"uri": {chance.choice(("exact", "prefix")): f"/{at}"}}],
            "timeout": chance.choice(("1s", "0.5s")),
            "route": [TO],
        }
        for at in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, in_parts.PART, in_parts.PART + 1, 3 * in_parts.PART + 7])
@pytest.mark.parametrize(
    ("kind", "model", "spec"),
    [
        ("VirtualService", VirtualService, lambda count: {"hosts": ["web"], "http": routes(count)}),
        (
            "DestinationRule",
            DestinationRule,
            lambda count: {"host": "web", "subsets": [{"name": f"v{at}"} for at in range(count)]},
        ),
        (
            "ServiceEntry",
            ServiceEntry,
            lambda count: {
                "hosts": [f"h{at}.example" for at in range(count + 1)],
                "endpoints": [{"address": f"10.0.{at // 256}.{at % 256}"} for at in range(count)],
            },
        ),
    ],
)
def test_what_is_read_in_parts_is_what_is_read_at_once(kind: str, model: type[Object], spec: Any, count: int) -> None:
    said = document(kind, spec(count))
    in_pieces = in_parts.read(model, said)
    assert (in_pieces == said) is (count <= in_parts.PART)
    at_once = model.model_validate(said, by_alias=True, by_name=False)
    assert model.model_validate(in_pieces, by_alias=True, by_name=False) == at_once
    assert said == document(kind, spec(count)), "what is read is left as it is"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"timeout": "soon"}, "spec.http[450].timeout"), ({"no": 1}, "spec.http[450].no"), (3, "spec.http[450]")],
)
def test_what_is_wrong_is_found_where_it_stands(wrong: Any, field: str) -> None:
    said = routes(500)
    said[450] = {**said[450], **wrong} if isinstance(wrong, dict) else wrong
    parsed = parse.parse(document("VirtualService", {"hosts": ["web"], "http": said}))
    assert [found.field for found in parsed.diagnostics] == [field]
    assert (parsed.object is not None) is (wrong == {"no": 1})


def test_what_has_no_list_of_models_is_left_to_the_whole() -> None:
    for spec in (None, 3, [], {"http": 3}, {"other": [1] * 500}, {"hosts": ["web"] * 500}):
        said = document("VirtualService", spec)
        assert in_parts.read(VirtualService, said) == said
    for model in filter(None, (info.model for info in registry.KINDS.values())):
        said = {"spec": {"rules": ["x"] * 500}}
        assert in_parts.read(model, said) == said
