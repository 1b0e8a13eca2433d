"""Credentials ``sds://...``: somebody in the proxy's pod serves them, so no Secret is looked for."""

from __future__ import annotations

from typing import Any

import pytest

from istiod.config.proxy import Proxy
from istiod.envoy import tls
from istiod.mesh import credentials, secret_users, unserved
from istiod.mesh.policy import TlsMode
from istiod.mesh.scope import DownstreamTls, UpstreamTls
from tests.envoy import made
from tests.mesh import fleet
from tests.mesh.test_credentials import POD, SERVICE, gateway, secret
from tests.mesh.test_secret_users import Followed, rule
from wire import names

OUTSIDE = "sds://outside"
PLAIN = {"LABELS": {"app": "gw"}}


def server(**said: Any) -> DownstreamTls:
    return DownstreamTls(**{"workload": False, "mutual": False, "alpn": (), "credential_name": OUTSIDE, **said})


def listeners(mesh: fleet.Mesh, **metadata: object) -> set[int]:
    proxy = fleet.proxy("gw-1", "istio-system", "router", **PLAIN, **metadata)
    return {one.port for one in mesh.scope(proxy).outbound.listeners.values()}


@pytest.mark.parametrize("mode", ["SIMPLE", "MUTUAL"])
def test_a_server_listens_where_somebody_serves_its_keys(mode: str) -> None:
    mesh = fleet.Mesh(SERVICE, POD, gateway(mode, credentialName=OUTSIDE))
    assert listeners(mesh, credential="true") == {80, 443}
    assert listeners(mesh) == listeners(mesh, credential="false") == {80}
    assert mesh.told() == []


def test_a_secret_of_ours_beside_it_has_to_be_there() -> None:
    both = gateway("SIMPLE", credentialName="", credentialNames=["web-cert", OUTSIDE])
    mesh = fleet.Mesh(SERVICE, POD, both)
    assert listeners(mesh, credential="true") == {80}
    mesh.apply(secret())
    assert listeners(mesh, credential="true") == {80, 443}
    assert listeners(mesh) == {80}


def test_a_secret_of_the_same_name_is_not_read() -> None:
    mesh = fleet.Mesh(SERVICE, POD, gateway("SIMPLE", credentialName=OUTSIDE), secret("outside"))
    assert dict(mesh.context.model.credentials.materials) == {}


@pytest.mark.parametrize(
    ("context", "ours", "external"),
    [
        (server(), set(), [OUTSIDE]),
        (server(mutual=True), set(), [OUTSIDE, f"{OUTSIDE}-cacert"]),
        (
            server(credential_name="a", more_credentials=(OUTSIDE,), ca_credential_name="b", mutual=True),
            {"kubernetes://a", "kubernetes://b-cacert"},
            [OUTSIDE],
        ),
        (server(credential_name="", ca_credential_name="b", mutual=True), {"kubernetes://b-cacert"}, []),
        (server(credential_name="", ca_credential_name="b"), set(), []),
        (UpstreamTls(mode=TlsMode.SIMPLE, credential_name=OUTSIDE), set(), [f"{OUTSIDE}-cacert"]),
        (UpstreamTls(mode=TlsMode.MUTUAL, credential_name=OUTSIDE), set(), [OUTSIDE, f"{OUTSIDE}-cacert"]),
        (UpstreamTls(mode=TlsMode.MUTUAL, credential_name=OUTSIDE, insecure_skip_verify=True), set(), [OUTSIDE]),
    ],
)
def test_only_ours_are_asked_of_us(context: DownstreamTls | UpstreamTls, ours: set[str], external: list[str]) -> None:
    assert tls.served_secrets(context) == ours
    wanted = (*credentials.certificates(context), *credentials.roots(context))
    assert [name for name in wanted if credentials.is_external(name)] == external


def test_envoy_asks_for_them_in_its_pod() -> None:
    context = tls.downstream(server(mutual=True), made.SETTINGS)
    assert context.typed_config.value.count(names.CLUSTER_CREDENTIALS.encode()) == 2
    assert b"kubernetes://" not in context.typed_config.value


def test_nobody_is_asked_whether_secrets_may_be_read_for_them() -> None:
    pods = (fleet.pod("gw-1", "10.1.0.1", "istio-system", account="gw"), fleet.pod("client-1", "10.1.0.2"))
    named = rule(trafficPolicy={"tls": {"mode": "SIMPLE", "credentialName": OUTSIDE}})
    followed = Followed(*pods, gateway("SIMPLE", credentialName=OUTSIDE), named)
    assert followed.users is secret_users.NOBODY or dict(followed.users.accounts) == {}


def lacking(mesh: fleet.Mesh, *proxies: Proxy) -> list[tuple[str, str]]:
    """Who is told, and of which pods."""
    found = unserved.findings(mesh.context, proxies)
    return [(one.code.name, one.message.partition("there is none in ")[2].partition(":")[0]) for one in found]


def test_a_gateway_whose_pods_have_no_socket_says_so() -> None:
    mesh = fleet.Mesh(SERVICE, POD, gateway("MUTUAL", credentialName=OUTSIDE))
    bare = [fleet.proxy(f"gw-{at}", "istio-system", "router", **PLAIN) for at in range(5)]
    served = fleet.proxy("gw-9", "istio-system", "router", **PLAIN, credential="true")
    assert lacking(mesh, bare[1], served) == [("UNSERVED_CREDENTIAL", "gw-1.istio-system")]
    shown = "gw-0.istio-system, gw-1.istio-system, gw-2.istio-system and 2 more"
    assert lacking(mesh, *bare) == [("UNSERVED_CREDENTIAL", shown)]


def test_proxies_that_have_no_use_for_it_are_not_spoken_of() -> None:
    mesh = fleet.Mesh(SERVICE, POD, gateway("SIMPLE", credentialName=OUTSIDE))
    other = fleet.proxy("other-1", "istio-system", "router", LABELS={"app": "other"})
    sidecar = fleet.proxy("gw-2", "istio-system", **PLAIN)
    assert lacking(mesh, other, sidecar) == []
    assert lacking(fleet.Mesh(SERVICE, POD, gateway("SIMPLE")), fleet.proxy("gw-1", "istio-system", "router")) == []


def test_servers_without_tls_name_none() -> None:
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    plain = fleet.istio("Gateway", "plain", {"servers": [{"port": port, "hosts": ["*"]}]})
    assert lacking(fleet.Mesh(SERVICE, POD, plain), fleet.proxy("gw-1", "istio-system", "router", **PLAIN)) == []
