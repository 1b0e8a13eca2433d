"""CustomResourceDefinitions: made of the models, complete, and what lies in crds/ and in the chart is what is made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from crds import registry
from crds.meta import Model
from crds.schema import definition, limits, structural, words

ROOT = Path(__file__).resolve().parents[2]
Schema = dict[str, Any]

SHORT = {
    "VirtualService": "vs",
    "DestinationRule": "dr",
    "Gateway": "gw",
    "ServiceEntry": "se",
    "WorkloadEntry": "we",
    "WorkloadGroup": "wg",
    "AuthorizationPolicy": "ap",
    "PeerAuthentication": "pa",
    "RequestAuthentication": "ra",
    "Telemetry": "telemetry",
}


def schemas(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{name}")
    for key, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from schemas(schema[key], path + sign)


def everything() -> Iterator[tuple[str, Schema]]:
    for made in definition.all_kinds().values():
        for version in made["spec"]["versions"]:
            yield from schemas(version["schema"]["openAPIV3Schema"], made["spec"]["names"]["kind"])


@pytest.mark.parametrize("folder", ["crds", "charts/base/files/crds"])
def test_the_folders_hold_what_is_made(folder: str) -> None:
    stored = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / folder).glob("*.yaml")}

    assert stored == definition.all_kinds()


def test_there_are_the_kinds_names_and_versions_that_users_know() -> None:
    made = {each["spec"]["names"]["kind"]: each for each in definition.all_kinds().values()}

    assert len(made) == 16
    assert {kind: each["spec"]["names"]["shortNames"][0] for kind, each in made.items() if kind in SHORT} == SHORT
    for kind, each in made.items():
        versions = {version["name"]: version for version in each["spec"]["versions"]}
        assert tuple(versions) == registry.KINDS[each["spec"]["group"], kind].versions
        assert all(version["served"] and version["subresources"] == {"status": {}} for version in versions.values())
        assert sum(version["storage"] for version in versions.values()) == 1
        assert each["spec"]["scope"] == "Namespaced"
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_every_field_has_a_description() -> None:
    named = [path for path, schema in everything() if "description" not in schema and path[-1] not in "]}"]

    assert named == []


def test_no_description_names_a_row_of_a_specification() -> None:
    found = [path for path, schema in everything() if re.search(r"\b[A-Z]\d+\b|``", schema.get("description", ""))]

    assert [path for path in found if not re.search(r"RE2|V[12]\b", path)] == []


def test_every_line_of_the_tables_concerns_a_field() -> None:
    for table in (words.WORDS, {model: limit.fields for model, limit in limits.LIMITS.items()}):
        for model, fields in table.items():
            names = {info.alias or name for name, info in model.model_fields.items()}
            assert set(fields) <= names, model
    for model, limit in limits.LIMITS.items():
        names = {info.alias or name for name, info in model.model_fields.items()}
        assert not set(limit.more) & names, model
        assert limit.without <= names, model
        assert {*limit.required, *(name for group in limit.one_of for name in group)} <= names | set(limit.more), model


def test_a_field_of_unknown_type_is_a_bug_and_not_a_hole() -> None:
    class Strange(Model):
        """Something."""

        value: complex = 0j

    with pytest.raises(TypeError, match="complex"):
        structural.schema(Strange)


def test_a_mapping_of_anything_keeps_what_it_holds() -> None:
    class Open(Model):
        """Something (F1, F2)."""

        value: Mapping[str, Any] = Field(default_factory=dict)

    made = structural.schema(Open)

    assert made["description"] == "Something."
    assert made["properties"]["value"]["x-kubernetes-preserve-unknown-fields"] is True
