"""Istio's own injection cases: which are as Istio has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from conformance import groups, injection, instruments, run

CASES = [path for path, _ in groups.BY_NAME["inject"].cases(instruments.root())]
REQUIRED = [path for path, _ in groups.BY_NAME["inject_required"].cases(instruments.root())]
CNI = "the CNI plugin in place of istio-init is not supported"
TEXT = "templates as text are not read"
NOT_YET: Mapping[str, str] = {
    "main-17-hello-existing-cncf-networks": CNI,
    "main-18-hello-existing-cncf-networks-json": CNI,
    "main-53-custom-template": TEXT,
    "main-60-hello-openshift": CNI,
    "main-61-hello-openshift-custom-injection": CNI,
    "main-62-hello-openshift-tproxy": CNI,
    "main-70-gateway-spire": TEXT,
    "main-82-grpc-agent": "proxyless gRPC is not supported",
    "main-83-grpc-simple": "proxyless gRPC is not supported",
}

pytestmark = pytest.mark.skipif(not CASES, reason=f"no conformance cases in {instruments.root()}")


@pytest.mark.parametrize("path", CASES, ids=groups.name_of)
def test_pod_is_as_istio_makes_it(path: Path) -> None:
    name = groups.name_of(path)
    left, _ = run.sort("inject", name, injection.pod(path))
    if reason := NOT_YET.get(name):
        assert left, f"no difference any more: take it from NOT_YET ({reason})"
        pytest.skip(reason)
    assert [str(each) for each in left] == []


@pytest.mark.parametrize(
    "path", [path for path in REQUIRED if path.parent.name == "inject_required"], ids=groups.name_of
)
def test_policy_decides_as_istios(path: Path) -> None:
    assert [str(each) for each in injection.required(path)] == []
