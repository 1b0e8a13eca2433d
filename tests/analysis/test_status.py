from __future__ import annotations

import textwrap
from typing import Any

from crds.key import NETWORKING, ConfigKey
from istiod.analysis import analyzers, documents, status
from istiod.analysis.resources import Collection

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: web
  namespace: shop
  annotations: {galley.istio.io/analyze-suppress: "%s"}
spec:
  hosts: [web]
  gateways: [nobody]
  http: [{route: [{destination: {host: nowhere}}]}, {route: [{destination: {host: nowhere}}]}]
"""
KEY = ConfigKey(NETWORKING, "VirtualService", "shop", "web")


def said(text: str) -> dict[ConfigKey, tuple[Any, ...]]:
    read = documents.read([("x.yaml", textwrap.dedent(text))])
    return status.by_object(analyzers.run(analyzers.usual(), Collection(read.resources)))


def test_each_code_stands_once_in_the_status_with_istios_name_and_page_the_worst_first() -> None:
    (found,) = (some for key, some in said(RULE % "").items() if key == KEY)

    assert found[0] == {
        "type": {"code": "IST0101", "name": "ReferencedResourceNotFound"},
        "level": "ERROR",
        "documentationUrl": "https://istio.io/latest/docs/reference/config/analysis/ist0101/",
    }
    codes = [one["type"]["code"] for one in found]
    assert len(codes) == len(set(codes))
    assert "IST0130" in codes
    assert {"type": {"code": "M0106", "name": "ShadowedRoute"}, "level": "WARNING"} in found


def test_what_a_user_suppresses_is_not_in_the_status() -> None:
    assert "IST0101" not in {one["type"]["code"] for one in said(RULE % "IST0101, IST0130")[KEY]}
    assert KEY not in said(RULE % "*")


def test_objects_of_other_kinds_have_no_such_status() -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    read = documents.read([("x.yaml", namespace)])
    found = analyzers.run(analyzers.usual(), Collection(read.resources))
    assert [each.type.code for each in found] == ["IST0102"]
    assert status.by_object(found) == {}
