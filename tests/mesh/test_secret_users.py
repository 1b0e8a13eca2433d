"""Whom the API server is asked about, and what an account without the right gets (SEC63)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crds.key import NETWORKING, ConfigKey
from istiod.config.proxy import Peer, Proxy
from istiod.config.secret_rights import Readers
from istiod.config.store import ConfigStore
from istiod.mesh import context, secret_users
from istiod.mesh.scope import OutboundScope
from istiod.mesh.secret_users import SecretUsers
from tests.mesh import fleet, test_credentials
from wire import spiffe

GATEWAY = ConfigKey(NETWORKING, "Gateway", "default", "gw")
RULE = ConfigKey(NETWORKING, "DestinationRule", "default", "web")
ROUTER = replace(
    test_credentials.ROUTER,
    peer=Peer(address="10.1.9.9", identity=spiffe.Identity("cluster.local", "istio-system", "gw")),
)
NAMED = {"mode": "SIMPLE", "credentialName": "a"}


class Followed:
    """A store, and the users in it as they follow its changes."""

    def __init__(self, *texts: str) -> None:
        self.changed: set[ConfigKey] = set()
        self.store = ConfigStore(self.changed.add)
        self.users = secret_users.NOBODY
        self.apply(*texts)

    def apply(self, *texts: str) -> SecretUsers:
        for text in texts:
            self.store.apply(fleet.parsed(text))
        return self.follow()

    def follow(self) -> SecretUsers:
        self.users = secret_users.build(self.store.snapshot(), self.users, self.changed)
        self.changed.clear()
        anew = secret_users.build(self.store.snapshot())
        assert (self.users.accounts, self.users.pods) == (anew.accounts, anew.pods)
        return self.users


def rule(**policy: object) -> str:
    spec = {"host": "web", "workloadSelector": {"matchLabels": {"app": "client"}}, **policy}
    return fleet.istio("DestinationRule", "web", spec)


def test_pods_that_gateways_with_credentials_select_are_asked_about() -> None:
    pods = (
        fleet.pod("gw-1", "10.1.0.1", "istio-system", account="gw"),
        fleet.pod("gw-2", "10.1.0.2", "other"),
        fleet.pod("web-1", "10.1.0.3"),
    )
    followed = Followed(*pods, test_credentials.gateway())
    assert followed.users.accounts == {("istio-system", "gw"): (GATEWAY,), ("other", "default"): (GATEWAY,)}


@pytest.mark.parametrize("field", ["credentialNames", "caCertCredentialName"])
def test_whatever_field_names_a_secret(field: str) -> None:
    tls: dict[str, object] = {"mode": "SIMPLE", field: ["a"]}
    if field == "caCertCredentialName":
        tls = {"mode": "MUTUAL", field: "a", "serverCertificate": "/a", "privateKey": "/b", "caCertificates": "/c"}
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    spec = {"selector": {"app": "gw"}, "servers": [{"port": port, "hosts": ["*"], "tls": tls}]}
    followed = Followed(test_credentials.POD, fleet.istio("Gateway", "gw", spec))
    assert set(followed.users.accounts) == {("istio-system", "gw")}


def test_gateways_without_credentials_ask_nothing() -> None:
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    spec = {"selector": {"app": "gw"}, "servers": [{"port": port, "hosts": ["*"]}]}
    assert not Followed(test_credentials.POD, fleet.istio("Gateway", "gw", spec)).users.accounts


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        ({"trafficPolicy": {"tls": NAMED}}, True),
        ({"subsets": [{"name": "v1", "trafficPolicy": {"tls": NAMED}}]}, True),
        ({"trafficPolicy": {"portLevelSettings": [{"port": {"number": 1}, "tls": NAMED}]}}, True),
        ({"trafficPolicy": {"tls": {"mode": "SIMPLE"}}}, False),
        ({"subsets": [{"name": "v1"}]}, False),
    ],
)
def test_sidecars_that_a_rule_gives_a_secret_are_asked_about(policy: dict[str, object], *, asked: bool) -> None:
    followed = Followed(
        fleet.pod("client-1", "10.1.0.1", account="c"),
        fleet.pod("client-2", "10.1.0.2", "other", account="c"),
        rule(**policy),
    )
    assert followed.users.accounts == ({("default", "c"): (RULE,)} if asked else {})


def test_a_rule_for_all_workloads_gives_sidecars_nothing() -> None:
    policy = {"host": "web", "trafficPolicy": {"tls": {"mode": "SIMPLE", "credentialName": "a"}}}
    assert not Followed(fleet.pod("client-1", "10.1.0.1"), fleet.istio("DestinationRule", "web", policy)).users.accounts


def test_an_egress_gateway_that_a_rule_gives_a_secret_is_asked_about() -> None:
    """Istio's task "Egress Gateways with TLS Origination": the gateway's own servers name no Secret."""
    policy = {"host": "web", "trafficPolicy": {"tls": {"mode": "SIMPLE", "credentialName": "a"}}}
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    spec = {"selector": {"app": "gw"}, "servers": [{"port": port, "hosts": ["*"]}]}
    followed = Followed(test_credentials.POD, fleet.pod("client-1", "10.1.0.1"), fleet.istio("Gateway", "gw", spec))
    assert not followed.users.accounts
    followed.apply(fleet.istio("DestinationRule", "web", policy))
    assert followed.users.accounts == {("istio-system", "gw"): (RULE,)}
    followed.store.remove(RULE)
    assert not followed.follow().accounts


def test_what_changes_nothing_is_the_same_object() -> None:
    followed = Followed(test_credentials.POD, test_credentials.gateway())
    before = followed.users
    assert followed.apply(fleet.pod("web-1", "10.1.0.3")) is before
    assert followed.apply(fleet.kube_service("web")) is before
    assert followed.apply(fleet.pod("gw-1", "10.1.9.9", "istio-system", account="gw", ready="False")) is before
    other = followed.apply(fleet.pod("gw-2", "10.1.9.8", "istio-system", account="gw"))
    assert other is not before
    assert other.accounts is before.accounts
    followed.store.remove(ConfigKey("", "Pod", "istio-system", "gw-1"))
    followed.store.remove(ConfigKey("", "Pod", "istio-system", "gw-2"))
    assert followed.follow().accounts == {}
    followed.store.remove(GATEWAY)
    assert followed.follow().accounts == {}


@pytest.mark.parametrize(
    ("readers", "served"),
    [
        (None, True),
        (frozenset({("istio-system", "gw")}), True),
        (frozenset({("other", "gw"), ("istio-system", "other")}), False),
        (frozenset(), False),
    ],
)
def test_an_account_that_may_not_read_secrets_gets_none(readers: Readers, *, served: bool) -> None:
    """Nor a listener that would wait for one; servers without a credential stay."""
    texts = (test_credentials.SERVICE, test_credentials.POD, test_credentials.gateway(), test_credentials.secret())
    found = scope_of(ROUTER, readers, *texts)
    assert set(found.secrets) == ({test_credentials.SDS} if served else set())
    assert set(found.listeners) == {"0.0.0.0_80", *(["0.0.0.0_443"] if served else [])}


def scope_of(proxy: Proxy, readers: Readers, *texts: str) -> OutboundScope:
    store = ConfigStore(secret_readers=readers)
    for text in texts:
        store.apply(fleet.parsed(text))
    return context.scope(context.build(store.snapshot()), proxy).outbound


def test_a_right_that_comes_or_goes_is_a_change_of_the_mesh() -> None:
    changed: set[ConfigKey] = set()
    store = ConfigStore(changed.add, secret_readers=frozenset())
    texts = (test_credentials.SERVICE, test_credentials.POD, test_credentials.gateway(), test_credentials.secret())
    for text in texts:
        store.apply(fleet.parsed(text))
    mesh = context.build(store.snapshot())
    assert mesh.secret_users.accounts == {("istio-system", "gw"): (GATEWAY,)}
    for readers, count in ((frozenset({("istio-system", "gw")}), 1), (frozenset[tuple[str, str]](), 0)):
        changed.clear()
        assert store.put_secret_readers(readers)
        assert not store.put_secret_readers(readers)
        assert changed
        mesh = context.build(store.snapshot(), mesh, frozenset(changed))
        assert len(context.scope(mesh, ROUTER).outbound.secrets) == count
        same = context.build(store.snapshot(), mesh, frozenset({ConfigKey("", "Pod", "x", "y")}))
        assert same.secret_users is mesh.secret_users


def test_nobody_is_asked_for_where_nobody_can_be() -> None:
    mesh = fleet.Mesh(test_credentials.POD, test_credentials.gateway())
    assert mesh.context.secret_users is secret_users.NOBODY
    assert not ConfigStore().put_secret_readers(None)


def test_a_store_that_nobody_listens_to_takes_rights_all_the_same() -> None:
    store = ConfigStore(secret_readers=frozenset())
    assert store.put_secret_readers(frozenset({("istio-system", "gw")}))
