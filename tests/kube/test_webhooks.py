"""What of a webhook configuration is made equal to the CA's roots."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from istiod.kube import webhooks
from istiod.kube.webhooks import Ours

OURS = Ours(
    revision="blue", names=frozenset({"named"}), hosts=frozenset({"istiod-blue.istio-system.svc", "istiod.example.org"})
)


def service(name: str = "istiod-blue", namespace: str = "istio-system") -> dict[str, Any]:
    return {"service": {"name": name, "namespace": namespace}}


@pytest.mark.parametrize("own", [service(), {"url": "https://istiod.example.org:8443/inject"}])
@pytest.mark.parametrize(
    "stranger",
    [{"url": "https://gatekeeper.example.org/inject"}, service("gatekeeper"), service(namespace="elsewhere"), {}],
)
def test_of_our_configuration_only_webhooks_that_call_istiod_are_touched(
    stranger: Mapping[str, Any], own: Mapping[str, Any]
) -> None:
    raw = {
        "metadata": {"name": "tag", "labels": {"istio.io/rev": "blue"}, "resourceVersion": "7"},
        "webhooks": [{"clientConfig": stranger, "failurePolicy": "Ignore"}, {"clientConfig": own}],
    }
    version, *fields = webhooks.patch("tag", webhooks.keep(raw), OURS, "the roots", strict=True)
    assert (version["path"], version["value"]) == ("/metadata/resourceVersion", "7")
    assert {each["path"]: each["value"] for each in fields} == {
        "/webhooks/1/clientConfig/caBundle": base64.b64encode(b"the roots").decode(),
        "/webhooks/1/failurePolicy": "Fail",
    }


@pytest.mark.parametrize(("name", "labels"), [("other", {}), ("named", {"istio.io/rev": "green"})])
def test_a_configuration_that_is_not_ours_is_left_alone(name: str, labels: Mapping[str, str]) -> None:
    raw = {"metadata": {"name": name, "labels": labels}, "webhooks": [{"clientConfig": service()}]}
    assert webhooks.patch(name, webhooks.keep(raw), OURS, "the roots", strict=True) == []
