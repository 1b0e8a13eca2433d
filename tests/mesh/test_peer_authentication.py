from __future__ import annotations

import pytest

from istiod.mesh import peer_authentication
from istiod.mesh.peer_authentication import PeerAuthenticationIndex, Verdict
from istiod.mesh.policy import MutualTls
from tests.mesh import fleet, world

ROOT = "istio-system"
WEB = frozenset({("app", "web"), ("version", "v1")})


def peer(name: str, mode: str = "", namespace: str = "default", ports: object = None, **more: object) -> str:
    spec: dict[str, object] = {"mtls": {"mode": mode}} if mode else {}
    if ports:
        spec["portLevelMtls"] = {port: {"mode": own} for port, own in ports.items()}  # type: ignore[attr-defined]  # plain YAML
    if "app" in more:
        spec["selector"] = {"matchLabels": {"app": more.pop("app")}}
    return fleet.istio("PeerAuthentication", name, spec, namespace, **more)


def build(*texts: str) -> tuple[PeerAuthenticationIndex, list[tuple[str, str, str]]]:
    index, found = peer_authentication.build(world.snapshot(*texts), ROOT)
    return index, [(d.code.name, d.key.name if d.key else "", d.field) for d in found]


def mode(*texts: str) -> MutualTls:
    return build(*texts)[0].of_workload("default", WEB).mode


MESH = peer("mesh", "STRICT", ROOT)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), "PERMISSIVE"),
        ((MESH,), "STRICT"),
        ((MESH, peer("ns", "DISABLE")), "DISABLE"),
        ((MESH, peer("ns", "DISABLE"), peer("web", "PERMISSIVE", app="web")), "PERMISSIVE"),
        ((MESH, peer("ns", "UNSET")), "STRICT"),
        ((MESH, peer("ns")), "STRICT"),
        ((MESH, peer("web", "DISABLE", app="other")), "STRICT"),
        ((peer("web", "DISABLE", "elsewhere", app="web"),), "PERMISSIVE"),
        ((peer("web", "DISABLE", ROOT, app="web"),), "PERMISSIVE"),
    ],
)
def test_the_nearest_rule_that_says_a_mode_decides(texts: tuple[str, ...], expected: str) -> None:
    assert mode(*texts) is MutualTls(expected)


def test_of_several_the_oldest_holds_and_the_others_are_told() -> None:
    new = peer("a", "STRICT", creationTimestamp="2024-01-02T00:00:00Z")
    old = peer("b", "DISABLE", creationTimestamp="2024-01-01T00:00:00Z")
    index, told = build(new, old)
    assert index.of_namespace("default") is MutualTls.DISABLE
    assert told == [("DUPLICATE_HOST", "a", "")]


def test_ports_of_a_workload_have_modes_of_their_own() -> None:
    index, _ = build(MESH, peer("web", "", ports={9000: "DISABLE", 80: "UNSET"}, app="web"))
    verdict = index.of_workload("default", WEB)
    assert verdict.mode is MutualTls.STRICT
    assert verdict.ports == ((80, MutualTls.STRICT), (9000, MutualTls.DISABLE))
    assert verdict.origin is not None
    assert verdict.origin.key.name == "web"
    assert index.of_port("default", WEB, 9000) is MutualTls.DISABLE
    assert index.of_port("default", WEB, 9001) is MutualTls.STRICT


def test_nobody_said_anything() -> None:
    assert build()[0].of_workload("default", WEB) == Verdict()


def test_what_has_no_effect_is_told() -> None:
    _, told = build(peer("root", "STRICT", ROOT, app="web"))
    assert told == [("INEFFECTIVE", "root", "spec.selector")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MESH, False),
        (peer("mesh", "DISABLE", ROOT), True),
        (peer("ns", "DISABLE"), True),
        (peer("web", "STRICT", ports={80: "DISABLE"}, app="web"), True),
    ],
)
def test_the_index_knows_whether_anybody_switches_mtls_off(text: str, *, expected: bool) -> None:
    assert build(text)[0].disables is expected
