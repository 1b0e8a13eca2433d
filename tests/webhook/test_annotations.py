"""webhook/annotations.py and workload.py: what annotations may say, and whom a pod belongs to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.webhook.test_inject import CONFIG, ON, injected, named, notes, pod, variables
from webhook import inject


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("traffic.sidecar.istio.io/includeInboundPorts", "80,x", "'80,x' is not a comma list of ports, or *"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "*", "'*' is not a comma list of ports"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.1", "'10.0.0.1' is not a comma list of IP ranges"),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8, 11.0.0.0/8",
            "'10.0.0.0/8, 11.0.0.0/8' is not a comma list of IP ranges, or *",
        ),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/255.0.0.0",
            "'10.0.0.0/255.0.0.0' is not a comma list of IP ranges, or *",
        ),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "x/8", "'x/8' is not a comma list of IP ranges, or *"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "a b", "'a b' is not a comma list of interfaces"),
        ("sidecar.istio.io/interceptionMode", "MAYBE", "'MAYBE' is not one of REDIRECT, TPROXY, NONE"),
        ("sidecar.istio.io/proxyCPU", "fast", "'fast' is not a quantity such as 100m"),
        ("sidecar.istio.io/proxyCPULimit", "fast", "'fast' is not a quantity such as 2"),
        ("sidecar.istio.io/proxyMemory", "big", "'big' is not a quantity such as 128Mi"),
        ("sidecar.istio.io/userVolume", "[", "'[' is not a JSON object of volumes by name"),
        ("sidecar.istio.io/userVolumeMount", '{"a":1}', "'{\"a\":1}' is not a JSON object of mounts by volume name"),
        ("status.sidecar.istio.io/port", "65536", "'65536' is not a port"),
        ("sidecar.istio.io/nativeSidecar", "yes", "'yes' is not true or false"),
        ("status.sidecar.istio.io/port", "9" * 5000, "'9999"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "9" * 5000, "'9999"),
        ("inject.istio.io/templates", "sidecar,spire", "there is no template 'spire'; there are gateway, sidecar"),
        ("proxy.istio.io/config", "- 1", "must be an object"),
        ("proxy.istio.io/config", "{", "no YAML: did not find"),
    ],
)
def test_an_annotation_that_cannot_be_read_refuses_the_pod(name: str, value: str, message: str) -> None:
    answer = inject.inject(pod({name: value}), CONFIG, "demo", ON)
    assert answer.refused
    assert answer.patch == ()
    assert answer.diagnostics[0].field == f"metadata.annotations[{name}]"
    assert answer.diagnostics[0].message.startswith(message)


@pytest.mark.parametrize("no", ["0", "f", "F", "false", "FALSE", "False"])
@pytest.mark.parametrize("yes", ["1", "t", "T", "true", "TRUE", "True"])
def test_true_and_false_are_said_as_go_reads_them(yes: str, no: str) -> None:
    names = ("sidecar.istio.io/nativeSidecar", "sidecar.istio.io/rewriteAppHTTPProbers")
    metrics = "prometheus.istio.io/merge-metrics"
    app = {"name": "reviews", "readinessProbe": {"httpGet": {"port": 1}}}
    for default in (True, False):
        config = replace(CONFIG, native_sidecar=default, rewrite_probes=default, merge_metrics=default)
        for value, wanted in ((yes, True), (no, False)):
            answer = injected(pod({**dict.fromkeys(names, value), metrics: value}, containers=[app]), config)
            assert (named(answer, "istio-proxy").get("restartPolicy") == "Always") is wanted
            assert (named(answer, "reviews")["readinessProbe"] != app["readinessProbe"]) is wanted
            assert ("prometheus.io/port" in notes(answer)) is wanted


def test_port_0_is_a_port_that_nothing_has() -> None:
    arguments = named(injected(pod({"traffic.sidecar.istio.io/excludeOutboundPorts": "0, 80"})), "istio-init")["args"]
    assert arguments[arguments.index("-o") + 1] == "0, 80"


def test_an_empty_list_captures_nothing() -> None:
    prefix = "traffic.sidecar.istio.io/"
    asked = {f"{prefix}includeOutboundIPRanges": "", f"{prefix}includeInboundPorts": ""}
    arguments = named(injected(pod(asked)), "istio-init")["args"]
    assert arguments[arguments.index("-i") + 1] == arguments[arguments.index("-b") + 1] == ""


def test_a_wrong_field_of_the_pods_proxy_config_is_named() -> None:
    answer = inject.inject(pod({"proxy.istio.io/config": "statusPort: x"}), CONFIG, "demo", ON)
    assert answer.refused
    assert answer.diagnostics[0].field == "metadata.annotations[proxy.istio.io/config].statusPort"


def test_an_annotation_without_effect_is_said_so() -> None:
    answer = injected(pod({"sidecar.istio.io/enableCoreDump": "true"}))
    assert [str(each) for each in answer.diagnostics] == [
        "M0108 Pod/demo/reviews-v1 metadata.annotations[sidecar.istio.io/enableCoreDump]: has no effect yet",
    ]


def test_annotations_that_the_agent_reads_are_known() -> None:
    read = {
        "statsInclusionPrefixes": "cluster",
        "statsInclusionSuffixes": "x",
        "statsInclusionRegexps": ".*",
        "extraStatTags": "a,b",
        "statsHistogramBuckets": '{"istiocustom": [1, 5]}',
        "statsFlushInterval": "10s",
    }
    assert injected(pod({f"sidecar.istio.io/{name}": value for name, value in read.items()})).diagnostics == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("statsHistogramBuckets", "[1]"), ("statsHistogramBuckets", '{"a": 1}'), ("statsFlushInterval", "often")],
)
def test_what_would_keep_the_agent_from_starting_is_refused(name: str, value: str) -> None:
    answer = inject.inject(pod({f"sidecar.istio.io/{name}": value}), CONFIG, "demo", ON)
    assert answer.refused
    assert [each.field for each in answer.diagnostics] == [f"metadata.annotations[sidecar.istio.io/{name}]"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("proxy.istio.io/conf", "UNKNOWN_FIELD"),
        ("prometheus.istio.io/merge", "UNKNOWN_FIELD"),
        ("networking.istio.io/exportTo", "UNKNOWN_FIELD"),
        ("ambient.istio.io/bypass-inbound-capture", "NOT_SUPPORTED"),
        ("ambient.istio.io/other", "UNKNOWN_FIELD"),
    ],
)
def test_what_nobody_reads_on_a_pod_is_told(name: str, code: str) -> None:
    (told,) = injected(pod({name: "x"})).diagnostics
    assert (told.code.name, told.field) == (code, f"metadata.annotations[{name}]")


def test_a_variable_in_vain_is_told_where_a_pod_asks_for_it() -> None:
    said = {"proxy.istio.io/config": "proxyMetadata: {XDS_ROOT_CA: /certs, ISTIO_META_DNS_CAPTURE: 'true'}"}
    theirs = {"name": "istio-proxy", "env": [{"name": "XDS_ROOT_CA", "value": "/certs"}, {"name": "OTHER"}]}
    answer = injected(pod(said, containers=[{"name": "reviews"}, theirs]))
    assert [each.field for each in answer.diagnostics] == [
        "metadata.annotations[proxy.istio.io/config].proxyMetadata.XDS_ROOT_CA",
        "spec.containers[1].env[XDS_ROOT_CA]",
    ]


def test_an_app_with_the_proxys_user_is_warned() -> None:
    """Row SEC70 of the hostile inputs."""
    app = {"name": "reviews", "securityContext": {"runAsUser": 1337}}
    answer = injected(pod(containers=[app], securityContext={"runAsGroup": 1337}))
    assert [each.field for each in answer.diagnostics] == [
        "spec.containers[0].securityContext.runAsUser",
        "spec.containers[0].securityContext.runAsGroup",
    ]
    assert not answer.refused


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        (("batch/v1", "Job", "report-28391040"), "kubernetes://apis/batch/v1/namespaces/demo/cronjobs/report"),
        (("batch/v1", "Job", "once"), "kubernetes://apis/batch/v1/namespaces/demo/jobs/once"),
        (("apps/v1", "ReplicaSet", "alone"), "kubernetes://apis/apps/v1/namespaces/demo/replicasets/alone"),
        (("apps/v1", "StatefulSet", "db"), "kubernetes://apis/apps/v1/namespaces/demo/statefulsets/db"),
    ],
)
def test_the_owner_is_the_object_that_somebody_wrote(reference: tuple[str, str, str], url: str) -> None:
    given = pod()
    version, kind, name = reference
    owner = {"apiVersion": version, "kind": kind, "name": name, "controller": True}
    given["metadata"]["ownerReferences"] = [{"kind": "Node", "name": "other"}, owner]
    assert variables(named(injected(given), "istio-proxy"))["ISTIO_META_OWNER"] == url
