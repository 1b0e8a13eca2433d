"""``diff``: the change that a person would describe, nothing where nothing changes, and exit codes for CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from istioctl import __main__ as program
from istioctl.diff import compare
from istioctl.diff.facts import Facts, Title
from istioctl.offline import world
from istiod import pages
from tests import samples
from tests.explain.test_real_envoy import KEYS
from tests.istioctl.test_control_plane import istiod
from tests.istioctl.test_explain import BOOKINFO, POLICY, STRICT
from tests.mesh import fleet

BASE = [str(BOOKINFO / "bookinfo.yaml"), str(BOOKINFO / "networking" / "destination-rules.yaml")]
FLAGS = [flag for path in BASE for flag in ("-f", path)]

SAMPLES = {
    "all-v1": (
        "- /* -> to details.default:9080\n    + /* -> to details.default:9080 subset v1",
        "+ /* -> to ratings.default:9080 subset v1",
        "+ /* -> to reviews.default:9080 subset v1",
        "requests to productpage.default.svc.cluster.local:9080",
    ),
    "details-v2": ("+ /* -> to details.default:9080 subset v2",),
    "ratings-db": ("+ /* -> to ratings.default:9080 subset v2", "+ /* -> to reviews.default:9080 subset v3"),
    "ratings-mysql-vm": ("+ /* -> to ratings.default:9080 subset v2-mysql-vm",),
    "ratings-mysql": ("+ /* -> to ratings.default:9080 subset v2-mysql",),
    "ratings-test-abort": ("header end-user 'jason': 100% are answered 500",),
    "ratings-test-delay": ("header end-user 'jason': 100% wait 7 s",),
    "reviews-50-v3": ("+ /* -> 50% to reviews.default:9080 subset v1, 50% to reviews.default:9080 subset v3",),
    "reviews-80-20": ("+ /* -> 80% to reviews.default:9080 subset v1, 20% to reviews.default:9080 subset v2",),
    "reviews-90-10": ("+ /* -> 90% to reviews.default:9080 subset v1, 10% to reviews.default:9080 subset v2",),
    "reviews-jason-v2-v3": (
        "+ /*, header end-user 'jason' -> to reviews.default:9080 subset v2",
        "+ /* -> to reviews.default:9080 subset v3",
    ),
    "reviews-test-v2": (
        "+ /*, header end-user 'jason' -> to reviews.default:9080 subset v2",
        "+ /* -> to reviews.default:9080 subset v1",
    ),
    "reviews-v2-v3": ("+ /* -> 50% to reviews.default:9080 subset v2, 50% to reviews.default:9080 subset v3",),
    "reviews-v3": ("+ /* -> to reviews.default:9080 subset v3",),
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = program.main(["diff", *arguments])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_described_as_a_person_would(capsys: pytest.CaptureFixture[str], name: str) -> None:
    rules = samples.path("bookinfo/networking/destination-rule-all.yaml")
    new = samples.path(f"bookinfo/networking/virtual-service-{name}.yaml")
    flags = ["-f", BASE[0], "-f", str(rules)]
    code, text = run(capsys, *flags, "--new", str(new))
    assert code == 1
    for words in SAMPLES[name]:
        assert words in text
    assert "new: VirtualService/default/" in text
    assert "6 of 6 proxies would do something else" in text
    code, text = run(capsys, *flags, "-f", str(new), "--new", str(new))
    assert (code, text) == (0, "")


def test_every_sample_of_virtual_services_is_looked_at() -> None:
    folder = samples.path("bookinfo/networking")
    assert {one.stem.removeprefix("virtual-service-") for one in folder.glob("virtual-service-*")} == set(SAMPLES)


def test_proxies_of_equal_effect_are_named_together_and_draining_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(f"{POLICY}\n---\n{STRICT}")
    code, text = run(capsys, *FLAGS, "--new", str(new))
    assert code == 1
    assert "3 proxies: details-v1-0.default, productpage-v1-0.default, ratings-v1-0.default\n" in text
    assert "3 proxies: reviews-v1-0.default, reviews-v2-0.default, reviews-v3-0.default\n" in text
    assert "port 9080 accepts\n    - plain text and mTLS\n    + mTLS\n" in text
    assert "authorization ALLOW by AuthorizationPolicy/default/viewers spec.rules[0]" in text
    assert "listener virtualInbound drains" in text
    code, whole = run(capsys, *FLAGS, "--new", str(new), "--verbose")
    assert "filter chain" in whole
    assert "filter chain" not in text


def test_two_folders_and_what_is_taken_away(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        for number, path in enumerate(BASE):
            (tmp_path / name / f"{number}.yaml").write_bytes(Path(path).read_bytes())
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    assert run(capsys, old, new) == (0, "")
    weights = BOOKINFO / "networking" / "reviews-80-20.yaml"
    (tmp_path / "old" / "vs.yaml").write_bytes(weights.read_bytes())
    code, text = run(capsys, old, new, "-o", "json")
    found = json.loads(text)
    assert code == 1
    assert found["objects"] == [{"change": "gone", "object": "VirtualService/default/reviews"}]
    assert found["groups"][0]["changes"][0]["title"] == "requests to reviews.default.svc.cluster.local:9080"
    code, text = run(capsys, "-f", old, "--delete", str(weights))
    assert code == 1
    assert "gone: VirtualService/default/reviews" in text


GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: first}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: first}
spec: {hosts: ["*"], gateways: [first], http: [{route: [{destination: {host: productpage}}]}]}
"""
POD = """\
---
apiVersion: v1
kind: Pod
metadata:
  name: own
  namespace: istio-system
  labels: {istio: ingressgateway}
  annotations: {inject.istio.io/templates: gateway}
spec: {containers: [{name: istio-proxy, image: auto}]}
"""


@pytest.mark.parametrize("name", ["istio-ingressgateway-0", "own"])
def test_the_first_gateway_changes_the_pod_that_it_selects_and_no_other(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(POD if name == "own" else "")
    new = tmp_path / "new.yaml"
    new.write_text(GATEWAY)
    code, said = run(capsys, *FLAGS, "-f", str(own), "--new", str(new))
    assert code == 1
    groups = [line for line in said.splitlines() if line[:1].isdigit()]
    assert groups == [f"1 proxy: {name}.istio-system", "1 of 7 proxies would do something else"]
    assert "+ /* -> to productpage.default:9080" in said
    assert "    - " not in said


def test_a_gateway_that_comes_with_its_pod_is_a_new_proxy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(GATEWAY + POD)
    _, said = run(capsys, *FLAGS, "--new", str(tmp_path / "new.yaml"))
    assert "1 proxy: own.istio-system\n  proxy\n    + is new\n" in said
    assert "istio-ingressgateway-0" not in said


def test_what_is_wrong_with_the_new_yaml_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    lost = {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "ghost"}}]}]}
    new.write_text(fleet.istio("VirtualService", "lost", lost))
    code, text = run(capsys, *FLAGS, "--new", str(new))
    assert code == 1
    assert "finding: " in text
    assert "M0103" in text


def test_a_rule_that_leads_nowhere_is_said_to_answer_503(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(
        fleet.istio(
            "VirtualService",
            "reviews",
            {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviewz"}}]}]},
            "default",
        )
    )
    code, said = run(capsys, *FLAGS, "--new", str(new))
    assert code == 1
    wanted = """  requests to reviews.default.svc.cluster.local:9080
    - /* -> to reviews.default:9080
    + answered 503: no destination has such a port or subset
"""
    assert wanted in said


def test_of_two_facts_with_one_title_each_change_is_told() -> None:
    """One leads somewhere and the other nowhere: so their ranks differ, until they are held against the other side."""
    leads, nowhere = (Title(rank=rank, text="requests to web:80") for rank in (0, 6))

    def said(was: Facts, now: Facts) -> list[tuple[str, ...]]:
        return [one.lines for one in compare.changes(was, now)]

    was = {nowhere: ("answered 503",), leads: ("to a",)}
    assert said(was, {leads: ("to b",), nowhere: ("answered 503",)}) == [("- to a", "+ to b")]
    assert said(was, {leads: ("to a",)}) == [("- answered 503",)]
    assert said(was, {nowhere: ("answered 503",)}) == [("- to a",)]
    assert said(was, dict(reversed(was.items()))) == []
    part = Title(rank=6, text="domains of web:80 (80)", part_of=nowhere)
    assert said({**was, part: ("web",)}, {**was, part: ("*",)}) == [("- web", "+ *")]


def test_a_token_rule_and_an_other_endpoint_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    rule = {"selector": {"matchLabels": {"app": "details"}}, "jwtRules": [{"issuer": "i", "jwks": KEYS}]}
    settings = {"host": "details", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}}}
    new.write_text(
        f"{fleet.istio('RequestAuthentication', 'r', rule)}\n---\n{fleet.istio('DestinationRule', 'details', settings)}"
    )
    code, text = run(capsys, *FLAGS, "--new", str(new))
    assert code == 1
    assert "tokens of end users" in text
    assert "max_connections: 7" in text
    assert "details.default:9080 subset v1, the app at port 9080 are made anew" in text


@pytest.mark.parametrize("arguments", [(), ("a",), ("--new", "/nowhere", "-f", BASE[0]), ("a", "b", "--new", "c")])
def test_what_cannot_be_said_is_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert program.main(["diff", *arguments]) == 2
    assert capsys.readouterr().err.startswith("Error: ")


def test_a_change_is_laid_over_the_objects_of_a_running_istiod(capsys: pytest.CaptureFixture[str]) -> None:
    held = world.read(BASE)
    configz = [pages.shown(item) for item in held.snapshot]
    weights = BOOKINFO / "networking" / "reviews-80-20.yaml"
    with istiod({"/debug/configz": configz}) as address:
        code, text = run(capsys, "--monitoring-address", address, "--new", str(weights))
    assert code == 1
    assert "+ /* -> 80% to reviews.default:9080 subset v1, 20% to reviews.default:9080 subset v2" in text
    assert "6 of 6 proxies" in text


PATCHES = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: patches, namespace: default}
spec:
  configPatches:
  - applyTo: BOOTSTRAP
    patch: {operation: MERGE, value: {stats_flush_interval: 7s}}
  - applyTo: HTTP_FILTER
    match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: found
        config_discovery:
          config_source: {ads: {}}
          type_urls: [&type type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation]
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value: {name: found, typed_config: {"@type": *type, mutations: {response_mutations: [{remove: x-a}]}}}
"""


def test_what_no_listener_holds_is_told_and_ends_no_connection(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    before.write_text(PATCHES)
    after.write_text(PATCHES.replace("x-a", "x-b").replace("7s", "8s"))
    code, text = run(capsys, *FLAGS, "-f", str(before), "--new", str(after))
    assert code == 1
    assert "configuration of filter found\n" in text
    assert "+ typed_config.mutations.response_mutations[0].remove: x-b\n" in text
    assert "patches of the bootstrap, for pods that ask\n    - stats_flush_interval: 7s\n" in text
    assert "drain" not in text
    assert "made anew" not in text
