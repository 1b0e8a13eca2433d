"""Chart values and mesh configuration -> settings of the injector."""

from __future__ import annotations

import json

import pytest

from crds.diagnostic import Code, Severity
from webhook import values
from webhook.settings import InjectionConfig
from webhook.values import Surroundings, Texts, from_values

VALUES = """
global:
  hub: registry.local/istio
  tag: 1
  imagePullPolicy: IfNotPresent
  imagePullSecrets: [regcred]
  logAsJson: true
  network: blue
  meshID: mesh1
  multiCluster: {clusterName: east}
  proxy:
    statusPort: 15020
    includeInboundPorts: 8080
    resources: {limits: {cpu: null, memory: 1Gi}, requests: null}
    startupProbe: {enabled: false}
    lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
revision: canary
sidecarInjectorWebhook:
  enableNamespacesByDefault: true
  rewriteAppHTTPProbe: false
  injectedAnnotations: {team: mesh}
  neverInjectSelector: [{matchLabels: {raw: "true"}}]
"""


def config_of(texts: Texts, around: Surroundings | None = None) -> InjectionConfig:
    found = from_values(texts, around or Surroundings())
    assert found.config is not None, [str(each) for each in found.diagnostics]
    return found.config


def test_values_of_the_chart_become_settings() -> None:
    mesh = "{trustDomain: example.org, enablePrometheusMerge: false, defaultConfig: {drainDuration: 20s}}"
    found = config_of(Texts(values=VALUES, mesh=mesh), Surroundings(revision="canary", kubelets=("v1.36.1",)))
    assert found.image == "registry.local/istio/proxyv2:1"
    assert found.image_pull_secrets == ("regcred",)
    assert found.ca_address == "istiod-canary.istio-system.svc:15012"
    assert (found.cluster_id, found.network, found.mesh_id) == ("east", "blue", "mesh1")
    assert found.capture.include_inbound_ports == "8080"
    assert found.resources == {"limits": {"memory": "1Gi"}}
    assert found.startup_failures == 0
    assert found.lifecycle == {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    assert found.trust_domain == "example.org"
    assert found.proxy_config == {"drainDuration": "20s"}
    assert found.injected_annotations == {"team": "mesh"}
    assert found.policy.never == ({"matchLabels": {"raw": "true"}},)
    assert found.policy.namespaces_by_default
    assert found.native_sidecar
    assert found.log_as_json
    assert not found.rewrite_probes
    assert not found.merge_metrics


def test_nothing_given_is_istios_default() -> None:
    assert config_of(Texts()) == InjectionConfig(resources={}, merge_metrics=True)


def test_what_the_configuration_says_wins_over_the_values() -> None:
    said = "{policy: disabled, neverInjectSelector: [], injectedAnnotations: {a: b}, templates: [sidecar, gateway]}"
    found = config_of(Texts(values=VALUES, config=said))
    assert not found.policy.enabled
    assert found.policy.never == ()
    assert found.injected_annotations == {"a": "b"}


@pytest.mark.parametrize(
    ("texts", "field", "message"),
    [
        (Texts(values="a: [", mesh=""), "data.values", "line"),
        (Texts(values="7"), "data.values", "must be an object"),
        (Texts(config="[]"), "data.config", "must be an object"),
        (Texts(mesh="{accessLogFile: 7}"), "data.mesh.accessLogFile", "must be"),
        (Texts(values="{global: {proxy: {statusPort: http}}}"), "data.values.global.proxy.statusPort", "must be"),
        (
            Texts(values="{global: {proxy: {excludeIPRanges: '1.2.3.4/33'}}}"),
            "data.values.global.proxy.excludeIPRanges",
            "is not a comma list of IP ranges",
        ),
    ],
)
def test_what_cannot_be_read_gives_no_settings_and_says_where(texts: Texts, field: str, message: str) -> None:
    found = from_values(texts)
    assert found.config is None
    errors = [each for each in found.diagnostics if each.severity is Severity.ERROR]
    assert [each.field for each in errors] == [field]
    assert message in errors[0].message


def test_unknown_values_and_those_without_effect_are_reported() -> None:
    given = {
        "global": {"mountMtlsCerts": True, "variant": "debug", "surprise": 1, "proxy": {"tracer": "zipkin"}},
        "other": {},
    }
    found = from_values(Texts(values=json.dumps(given), mesh="{nonsense: 1}"), Surroundings(revision="canary"))
    assert found.config is not None
    assert {(each.code, each.field) for each in found.diagnostics} == {
        (Code.UNKNOWN_FIELD, "data.values.global.surprise"),
        (Code.UNKNOWN_FIELD, "data.values.other"),
        (Code.NOT_SUPPORTED, "data.values.global.mountMtlsCerts"),
        (Code.NOT_SUPPORTED, "data.values.global.variant"),
        (Code.NOT_SUPPORTED, "data.values.global.proxy.tracer"),
    }
    assert {each.key.name for each in found.diagnostics if each.key} == {"istio-sidecar-injector-canary"}


@pytest.mark.parametrize(
    ("around", "native"),
    [
        (Surroundings(), False),
        (Surroundings(kubelets=("v1.33.0", "v1.34.2+k3s1")), True),
        (Surroundings(kubelets=("v1.33.0", "v1.28.0")), False),
        (Surroundings(kubelets=("v1.33.0", "")), False),
        (Surroundings(kubelets=("v1.36.0",), native_sidecars="false"), False),
        (Surroundings(native_sidecars="true"), True),
    ],
)
def test_native_sidecars_need_kubelets_that_all_know_them(around: Surroundings, *, native: bool) -> None:
    assert config_of(Texts(), around).native_sidecar is native


def test_images_and_network_plugins_have_several_spellings() -> None:
    full = "{global: {proxy: {image: 'a.b/c:d'}, proxy_init: {image: 'a.b/init:d'}}, pilot: {cni: {enabled: true}}}"
    found = config_of(Texts(values=full))
    assert (found.image, found.init_image, found.cni, found.multus) == ("a.b/c:d", "a.b/init:d", True, False)
    bare = config_of(Texts(values="{global: {hub: h, tag: 1, proxy: {image: p}, proxy_init: {image: init}}}"))
    assert (bare.image, bare.init_image) == ("h/p:1", "")  # a bare name is not looked at, as on Istio
    for same in ("proxyv2", "p", ""):  # then istio-init has whatever image a pod's proxy has
        given = {"global": {"proxy": {"image": "p"}, "proxy_init": {"image": same}}}
        assert config_of(Texts(values=json.dumps(given))).init_image == ""
    assert config_of(Texts(values="{istio_cni: {enabled: true, chained: false}}")).multus
    assert config_of(Texts(values="{pilot: {cni: {enabled: true, provider: multus}}}")).multus
    assert config_of(Texts(values="{global: {platform: openshift}}")).openshift


def test_templates_are_plain_yaml_or_refused_by_name() -> None:
    said = {
        "templates": {
            "sidecar": "{{ .Values }}",
            "spire": "spec: {volumes: [{name: workload-socket}]}",
            "go": "metadata: {labels: {a: '{{ .Name }}'}}",
            "broken": "a: [",
            "kind": "kind: Pod",
            "list": "spec: []",
        },
        "aliases": {"both": ["sidecar", "spire"]},
        "defaultTemplates": ["both"],
    }
    found = from_values(Texts(config=json.dumps(said)))
    assert found.config is not None
    assert sorted(each.field for each in found.diagnostics) == [
        f"data.config.templates.{name}" for name in ("broken", "go", "kind", "list")
    ]
    choices = found.config.templates
    assert choices.named("") == ("sidecar", "spire")
    assert choices.named("spire, both") == ("spire", "sidecar")
    assert choices.problem("sidecar") == choices.problem("gateway") == choices.problem("spire") == ""
    assert "Go's template language" in choices.problem("go")
    assert choices.problem("none") == "there is no template 'none'; there are both, gateway, sidecar, spire"


def test_config_maps_are_named_by_revision() -> None:
    assert [values.injector_name(r) for r in ("", "default", "x")] == ["istio-sidecar-injector"] * 2 + [
        "istio-sidecar-injector-x"
    ]
    assert [values.mesh_name(r) for r in ("default", "x")] == ["istio", "istio-x"]
