"""Rights and containers of all charts, held against a list: whoever widens one changes it here, too (SEC73, SEC74)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.charts import helm

pytestmark = pytest.mark.apiserver

READ = frozenset({"get", "list", "watch"})
ISTIOS = {
    "networking.istio.io": (
        "destinationrules",
        "envoyfilters",
        "gateways",
        "proxyconfigs",
        "serviceentries",
        "sidecars",
        "virtualservices",
        "workloadentries",
        "workloadgroups",
    ),
    "security.istio.io": ("authorizationpolicies", "peerauthentications", "requestauthentications"),
    "telemetry.istio.io": ("telemetries",),
    "extensions.istio.io": ("wasmplugins", "trafficextensions"),
    "extensions.istiod.dev": ("localratelimits",),
}
CLUSTER = {
    **{("", name): READ for name in ("services", "pods", "nodes", "namespaces", "secrets")},
    ("discovery.k8s.io", "endpointslices"): READ,
    **{(group, name): READ for group, names in ISTIOS.items() for name in names},
    **{(group, f"{name}/status"): frozenset({"patch"}) for group, names in ISTIOS.items() for name in names},
    ("", "events"): frozenset({"create"}),
    ("", "configmaps"): frozenset({"create"}),
    ("", "configmaps", "istio-ca-root-cert"): READ | {"patch"},
    ("authentication.k8s.io", "tokenreviews"): frozenset({"create"}),
    ("authorization.k8s.io", "subjectaccessreviews"): frozenset({"create"}),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): READ,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): READ,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "istio-sidecar-injector"): frozenset({"patch"}),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "istio-revision-tag-prod"): frozenset({"patch"}),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "istio-validator-istio-system"): (
        frozenset({"patch"})
    ),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "istiod-default-validator"): (
        frozenset({"patch"})
    ),
}
OWN_NAMESPACE = {
    ("", "secrets"): frozenset({"create"}),
    ("", "secrets", "istio-ca-secret"): frozenset({"get", "patch"}),
    ("", "secrets", "istio-ca-rotation"): frozenset({"get", "patch"}),
    ("", "secrets", "istio-last-good"): frozenset({"get", "patch"}),
    ("", "secrets", "cacerts"): frozenset({"get"}),
    ("", "configmaps"): READ,
    ("coordination.k8s.io", "leases"): frozenset({"create"}),
    ("coordination.k8s.io", "leases", "istio-leader"): frozenset({"get", "update"}),
    ("coordination.k8s.io", "leases", "istio-leader-default"): frozenset({"get", "update"}),
}


def rights(role: helm.Object) -> dict[tuple[str, ...], frozenset[str]]:
    """(group, resource) or (group, resource, name) -> verbs."""
    found: dict[tuple[str, ...], frozenset[str]] = {}
    for rule in role["rules"]:
        places = itertools.product(rule["apiGroups"], rule["resources"])
        for place, name in itertools.product(places, rule.get("resourceNames", [None])):
            key = place if name is None else (*place, name)
            found[key] = found.get(key, frozenset()) | frozenset(rule["verbs"])
    return found


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for chart in ("istiod", "gateway"):
        for pod in helm.pods(helm.render(chart)):
            for container in pod["spec"]["containers"]:
                yield chart, pod, container


def test_istiod_may_do_what_it_does_and_nothing_else() -> None:
    made = helm.render("istiod", {"revisionTags": ["prod"]})

    assert rights(helm.one(made, "ClusterRole")) == CLUSTER
    assert rights(helm.one(made, "Role")) == OWN_NAMESPACE
    bound = [each for each in made if each["kind"] in {"ClusterRoleBinding", "RoleBinding"}]
    assert len(bound) == 2
    assert all(
        each["subjects"] == [{"kind": "ServiceAccount", "name": "istiod", "namespace": helm.SYSTEM}] for each in bound
    )


def test_a_gateway_may_read_secrets_of_its_namespace_and_nothing_else() -> None:
    made = helm.render("gateway", release="istio-ingressgateway", namespace="istio-ingress")

    assert rights(helm.one(made, "Role")) == {("", "secrets"): READ}
    assert not [each for each in made if each["kind"].startswith("Cluster")]
    assert not [each for each in helm.render("gateway", {"rbac": {"enabled": False}}) if "Role" in each["kind"]]


def test_no_rule_anywhere_has_a_star() -> None:
    for chart in ("base", "istiod", "gateway"):
        for each in helm.render(chart):
            for place, verbs in rights(each).items() if each["kind"] in {"Role", "ClusterRole"} else ():
                assert "*" not in {*place, *verbs}, (each["metadata"]["name"], place)


def test_containers_have_no_privilege_and_no_place_to_write() -> None:
    for chart, pod, container in containers():
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True, chart
        assert context["readOnlyRootFilesystem"] is True, chart
        assert context["allowPrivilegeEscalation"] is False, chart
        assert context["privileged"] is False, chart
        assert context["capabilities"] == {"drop": ["ALL"]}, chart
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, chart
        assert not pod["spec"].get("hostNetwork"), chart
        assert not any("hostPath" in volume for volume in pod["spec"].get("volumes", [])), chart
        assert container["resources"]["requests"], chart


def test_only_istiod_gets_a_token_of_the_api_server() -> None:
    mounted = {chart: pod["spec"]["automountServiceAccountToken"] for chart, pod, _ in containers()}
    accounts = [
        each for chart in ("istiod", "gateway") for each in helm.render(chart) if each["kind"] == "ServiceAccount"
    ]

    assert mounted == {"istiod": True, "gateway": False}
    assert [each["automountServiceAccountToken"] for each in accounts] == [False, False]
