from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import replace
from functools import lru_cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from istiod.config.proxy import Peer, Proxy
from istiod.mesh import credentials
from istiod.mesh.policy import TlsMode
from istiod.mesh.scope import DownstreamTls, OutboundScope, UpstreamTls
from tests.mesh import fleet
from tests.odd_certificates import ODD_CURVE, of_no_version
from wire import spiffe

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")])
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
PEM = serialization.Encoding.PEM


def certificate(key: _Key, days: int = 36500) -> str:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateBuilder(NAME, NAME, key.public_key(), 1, START, START + dt.timedelta(days=days))
    return made.sign(key, digest).public_bytes(PEM).decode()


def text(key: _Key) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain).decode()


@lru_cache
def pair(_index: int = 0) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate(key), text(key)


@lru_cache
def revoked() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateRevocationListBuilder(NAME, START, START + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    return made.public_bytes(PEM).decode()


def secret(name: str = "web-cert", namespace: str = "istio-system", **data: str) -> str:
    found = data or {"tls.crt": pair()[0], "tls.key": pair()[1], "ca.crt": pair()[0]}
    encoded = {field: base64.b64encode(value.encode()).decode() for field, value in found.items()}
    return fleet.dump("v1", "Secret", name, namespace, data=encoded)


def gateway(tls: str = "SIMPLE", **more: object) -> str:
    server = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": ["a.example"],
        "tls": {"mode": tls, "credentialName": "web-cert", **more},
    }
    plain = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    return fleet.istio("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [server, plain]})


ROUTER = fleet.proxy("gw-1", "istio-system", "router", LABELS={"app": "gw"})
PORTS = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
SERVICE = fleet.kube_service("gw", "istio-system", ports=PORTS)
POD = fleet.pod("gw-1", "10.1.9.9", "istio-system", account="gw")
SDS = "kubernetes://web-cert"
KEPT = [("BAD_VALUE", "web-cert", "data"), ("UNKNOWN_CREDENTIAL", "gw", "spec.servers")]


def outbound(mesh: fleet.Mesh, proxy: Proxy = ROUTER) -> OutboundScope:
    return mesh.scope(proxy).outbound


def test_a_server_with_its_secret_listens_and_brings_it() -> None:
    found = outbound(fleet.Mesh(SERVICE, gateway("MUTUAL"), secret()))
    assert sorted(found.listeners) == ["0.0.0.0_443", "0.0.0.0_80"]
    assert sorted(found.secrets) == [SDS, f"{SDS}-cacert"]
    own = found.secrets[SDS]
    assert (own.certificate.decode(), own.key.decode(), own.root) == (*pair(), b"")
    assert found.secrets[f"{SDS}-cacert"].root.decode() == pair()[0]
    assert pair()[1] not in repr(own)


def test_a_server_without_its_secret_is_left_out_and_comes_with_it() -> None:
    mesh = fleet.Mesh(SERVICE, gateway())
    assert sorted(outbound(mesh).listeners) == ["0.0.0.0_80"]
    assert [(d.code.name, d.field) for d in mesh.context.diagnostics] == [("UNKNOWN_CREDENTIAL", "spec.servers")]
    assert "web-cert in istio-system" in mesh.context.diagnostics[0].message
    mesh.apply(secret(namespace="default"))
    assert sorted(outbound(mesh).listeners) == ["0.0.0.0_80"]
    assert mesh.context.diagnostics != ()
    mesh.apply(secret())
    assert sorted(outbound(mesh).secrets) == [SDS]
    assert mesh.context.diagnostics == ()


def test_a_gateway_without_a_service_may_find_its_secret_anywhere() -> None:
    assert [d.code.name for d in fleet.Mesh(gateway()).context.diagnostics] == ["UNKNOWN_CREDENTIAL"]
    assert fleet.Mesh(gateway(), secret(namespace="x")).context.diagnostics == ()


def test_other_secrets_change_nothing() -> None:
    mesh = fleet.Mesh(SERVICE, gateway(), secret())
    model = mesh.context.model
    mesh.apply(secret("other"), fleet.kube_service("more"))
    assert mesh.context.model.credentials is model.credentials
    mesh.apply(secret("another"))
    assert mesh.context.model.credentials is model.credentials


def test_a_router_that_is_not_its_pod_gets_no_secret() -> None:
    """Row SEC6 of the hostile inputs."""
    mesh = fleet.Mesh(SERVICE, gateway(), secret(), POD)

    def of(account: str, name: str = "gw-1") -> OutboundScope:
        proven = Peer(address="10.1.9.9", identity=spiffe.Identity("cluster.local", "istio-system", account))
        node = fleet.proxy(name, "istio-system", "router", LABELS={"app": "gw"}).node
        return outbound(mesh, Proxy(peer=proven, node=node))

    assert sorted(of("gw").secrets) == [SDS]
    assert sorted(of("other").listeners) == ["0.0.0.0_80"]
    assert of("other").secrets == {}
    assert of("gw", "made-up").secrets == {}


def test_a_secret_that_breaks_goes_on_as_it_was() -> None:
    mesh = fleet.Mesh(SERVICE, gateway("MUTUAL"), secret())
    before = outbound(mesh).secrets
    mesh.apply(secret(**{"tls.crt": pair()[0], "tls.key": pair(1)[1]}))
    assert outbound(mesh).secrets == before
    assert mesh.told() == KEPT
    assert all("its version before goes on serving" in finding.message for finding in mesh.context.diagnostics)
    mesh.apply(secret(**{"tls.crt": pair(1)[0], "tls.key": pair(1)[1], "ca.crt": pair()[0]}))
    assert outbound(mesh).secrets[SDS].certificate.decode() == pair(1)[0]
    assert mesh.context.diagnostics == ()


def test_a_secret_that_goes_serves_on_while_an_object_names_it() -> None:
    """Fault FT58."""
    mesh = fleet.Mesh(SERVICE, gateway("MUTUAL"), secret(), secret("never", "x"))
    before = outbound(mesh)
    mesh.remove(secret())
    assert outbound(mesh).secrets == before.secrets
    assert mesh.told() == KEPT
    assert "the Secret is gone; its version before goes on serving" in mesh.context.diagnostics[0].message
    gone = mesh.context.model.credentials
    mesh.apply(secret("other"))
    assert mesh.context.model.credentials is gone
    mesh.apply(secret(**{"tls.crt": "no certificate", "tls.key": "no key"}))
    assert outbound(mesh).secrets == before.secrets
    assert "no PEM certificate; its version before" in mesh.context.diagnostics[0].message
    mesh.apply(secret(note="nothing"))
    assert outbound(mesh).secrets == before.secrets
    mesh.remove(secret())
    mesh.apply(secret())
    assert mesh.told() == []
    mesh.remove(secret(), gateway())
    assert dict(mesh.context.model.credentials.materials) == {}
    mesh.apply(gateway())
    assert outbound(mesh).secrets == {}


def test_a_secret_of_which_nothing_was_good_leaves_nothing_behind() -> None:
    mesh = fleet.Mesh(SERVICE, gateway(), secret(**{"tls.crt": "x", "tls.key": "y"}))
    assert "goes on" not in mesh.context.diagnostics[0].message
    mesh.remove(secret())
    assert mesh.told() == [("UNKNOWN_CREDENTIAL", "gw", "spec.servers")]


def until(day: int) -> str:
    """A pair that ends so many days after START."""
    key = ec.generate_private_key(ec.SECP256R1())
    return secret(**{"tls.crt": certificate(key, day), "tls.key": text(key)})


def test_a_certificate_that_has_expired_replaces_none_that_has_not() -> None:
    mesh = fleet.Mesh(SERVICE, gateway(), until(10))
    today = START + dt.timedelta(days=5)
    mesh.keep_time(lambda: today)
    before = outbound(mesh).secrets
    mesh.apply(until(4))
    assert outbound(mesh).secrets == before
    assert mesh.told() == KEPT
    assert "expired (2024-01-05T00:00:00Z); its version before" in mesh.context.diagnostics[0].message
    mesh.apply(until(9))
    assert outbound(mesh).secrets != before
    assert mesh.told() == []


def test_a_certificate_that_expires_goes_on_and_is_told_once() -> None:
    mesh = fleet.Mesh(SERVICE, gateway(), until(10))
    today = START + dt.timedelta(days=11)
    before, index = outbound(mesh).secrets, mesh.context.model.credentials
    assert list(index.over(START)) == []
    (key,) = index.over(today)
    assert key.name == "web-cert"
    mesh.keep_time(lambda: today)
    mesh.note(key)
    assert outbound(mesh).secrets == before
    assert mesh.told() == KEPT
    assert mesh.context.diagnostics[0].message.endswith("expired (2024-01-11T00:00:00Z)")
    assert list(mesh.context.model.credentials.over(today)) == []
    mesh.apply(until(9))
    assert outbound(mesh).secrets != before
    assert mesh.told() == KEPT


def test_roots_that_are_gone_verify_on() -> None:
    own = secret(**{"tls.crt": pair()[0], "tls.key": pair()[1]})
    mesh = fleet.Mesh(SERVICE, gateway("MUTUAL"), own, secret("web-cert-cacert", **{"ca.crt": pair(1)[0]}))
    before = outbound(mesh).secrets
    mesh.remove(secret("web-cert-cacert"))
    assert outbound(mesh).secrets == before
    assert mesh.told() == [("BAD_VALUE", "web-cert-cacert", "data"), ("UNKNOWN_CREDENTIAL", "gw", "spec.servers")]


def space(uid: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system", "uid": uid}})


def test_a_namespace_that_comes_again_gets_nothing_of_the_one_before() -> None:
    mesh = fleet.Mesh(SERVICE, gateway("MUTUAL"), secret(), space("first"))
    before = outbound(mesh).secrets
    mesh.remove(secret())
    assert outbound(mesh).secrets == before
    mesh.remove(space("first"))
    mesh.apply(space("second"))
    assert outbound(mesh).secrets == {}


def test_an_expired_certificate_comes_with_the_roots_beside_it() -> None:
    def both(days: int, root: str) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        return secret(**{"tls.crt": certificate(key, days), "tls.key": text(key), "ca.crt": root})

    mesh = fleet.Mesh(SERVICE, gateway("MUTUAL"), both(10, pair()[0]))
    today = START + dt.timedelta(days=5)
    mesh.keep_time(lambda: today)
    before = outbound(mesh).secrets
    mesh.apply(both(4, pair(1)[0]))
    after = outbound(mesh).secrets
    assert after[SDS] == before[SDS]
    assert [after[name].root.decode() for name in after if name != SDS] == [pair(1)[0]]


RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 (weak on purpose)
CURVE = ec.generate_private_key(ec.SECP256K1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
LOCKED = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"tls.crt": "x", "tls.key": pair()[1]}, "the certificate is no PEM"),
        ({"tls.crt": ODD_CURVE, "tls.key": pair()[1]}, "of a kind that nobody knows"),
        ({"tls.crt": of_no_version(pair()[0]), "tls.key": pair()[1]}, "the certificate is no PEM"),
        ({"tls.crt": pair()[0], "tls.key": "x"}, "the private key is no PEM"),
        ({"tls.crt": pair()[0]}, "the private key is no PEM"),
        ({"tls.crt": pair()[0], "tls.key": LOCKED.decode()}, "without a password"),
        ({"cert": pair()[0], "key": pair()[1], "cacert": "x"}, "the CA certificate is no PEM"),
        ({"cacert": pair()[0], "crl": "x"}, "the CRL is no PEM"),
        ({"tls.crt": certificate(RSA), "tls.key": text(RSA)}, "RSA keys from 2048 bits"),
        ({"tls.crt": certificate(CURVE), "tls.key": text(CURVE)}, "P-384"),
        ({"tls.crt": certificate(EDWARDS), "tls.key": text(EDWARDS)}, "P-384"),
    ],
)
def test_a_secret_that_envoy_would_refuse_is_told_and_not_served(data: dict[str, str], words: str) -> None:
    mesh = fleet.Mesh(SERVICE, gateway(), secret(**data))
    assert outbound(mesh).secrets == {}
    assert any(words in d.message for d in mesh.context.diagnostics)
    assert not any("PRIVATE" in d.message for d in mesh.context.diagnostics)


def test_data_that_is_no_base64_is_told() -> None:
    broken = fleet.dump("v1", "Secret", "web-cert", "istio-system", data={"tls.crt": "a"})
    mesh = fleet.Mesh(SERVICE, gateway(), broken)
    assert any("base64" in d.message for d in mesh.context.diagnostics)


def test_roots_come_from_a_secret_of_their_own_or_from_the_certificates() -> None:
    root = secret("web-cert-cacert", cacert=pair()[0], crl=revoked())
    own = secret(**{"tls.crt": pair()[0], "tls.key": pair()[1]})
    mesh = fleet.Mesh(SERVICE, gateway("MUTUAL"), own)
    assert outbound(mesh).secrets == {}
    mesh.apply(root)
    assert outbound(mesh).secrets[f"{SDS}-cacert"].crl.decode() == revoked()
    named = fleet.Mesh(SERVICE, gateway("OPTIONAL_MUTUAL", caCertCredentialName="clients"), own)
    assert outbound(named).secrets == {}
    named.apply(secret("clients", cacert=pair()[0]))
    assert sorted(outbound(named).secrets) == ["kubernetes://clients-cacert", SDS]


def test_files_may_have_the_clients_authority_in_a_secret() -> None:
    files = {"credentialName": "", "serverCertificate": "/a", "privateKey": "/b", "caCertCredentialName": "clients"}
    mesh = fleet.Mesh(SERVICE, gateway("MUTUAL", **files))
    assert sorted(outbound(mesh).listeners) == ["0.0.0.0_80"], "the other server waits for its Secret"
    assert ("UNKNOWN_CREDENTIAL", "gw", "spec.servers") in mesh.told()
    mesh.apply(secret("clients", cacert=pair()[0]))
    assert sorted(outbound(mesh).secrets) == ["kubernetes://clients-cacert"]
    assert mesh.told() == []


def test_names_may_have_a_scheme_and_the_own_namespace() -> None:
    index = fleet.Mesh(gateway(), secret()).context.model.credentials
    tls = DownstreamTls(workload=False, mutual=False, alpn=())

    def opens(name: str) -> bool:
        return index.resolve("istio-system", replace(tls, credential_name=name)) is not None

    assert opens("kubernetes://web-cert")
    assert opens("kubernetes://istio-system/web-cert")
    assert not opens("kubernetes://other/web-cert")
    assert opens("")


def test_clients_name_credentials_by_mode() -> None:
    simple = UpstreamTls(mode=TlsMode.SIMPLE, credential_name="c")
    mutual = replace(simple, mode=TlsMode.MUTUAL, insecure_skip_verify=True)
    assert (credentials.certificates(simple), credentials.roots(simple)) == ((), ("c-cacert",))
    assert (credentials.certificates(mutual), credentials.roots(mutual)) == (("c",), ())


def test_a_cluster_of_a_gateway_without_its_secret_is_left_out() -> None:
    policy = {"tls": {"mode": "SIMPLE", "credentialName": "web-cert"}}
    rule = fleet.istio("DestinationRule", "web", {"host": "web", "trafficPolicy": policy})
    to = {"route": [{"destination": {"host": "web"}}]}
    routes = fleet.istio("VirtualService", "web", {"hosts": ["*.x"], "gateways": ["gw"], "http": [to]})
    plain = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    door = fleet.istio("Gateway", "gw", {"selector": {"app": "gw"}, "servers": [plain]})
    mesh = fleet.Mesh(SERVICE, fleet.kube_service("web"), door, routes, rule)
    name = "outbound|80||web.default.svc.cluster.local"
    assert name not in outbound(mesh).clusters
    assert not outbound(mesh).routes["http.80"].virtual_hosts[0].routes[0].destinations[0].destination.known
    mesh.apply(secret())
    assert name in outbound(mesh).clusters
    assert sorted(outbound(mesh).secrets) == [f"{SDS}-cacert"]


CLIENT = {"app": "client"}
MUTUAL = {"tls": {"mode": "MUTUAL", "credentialName": "web-cert"}}


def selecting_mesh(*more: str) -> fleet.Mesh:
    spec = {"host": "web", "trafficPolicy": MUTUAL, "workloadSelector": {"matchLabels": CLIENT}}
    rule = fleet.istio("DestinationRule", "web", spec)
    return fleet.Mesh(fleet.kube_service("web"), fleet.pod("client-1", "10.1.9.9"), rule, *more)


def test_a_sidecar_has_a_secret_where_a_rule_of_its_namespace_selects_it() -> None:
    mesh = selecting_mesh(secret(namespace="default"))
    name = "outbound|80||web.default.svc.cluster.local"
    chosen = mesh.scope(fleet.proxy(LABELS=CLIENT)).outbound
    tls = chosen.clusters[name].tls
    assert tls is not None
    assert tls.credential_name == "web-cert"
    assert set(chosen.secrets) == {"kubernetes://web-cert", "kubernetes://web-cert-cacert"}
    other = mesh.scope(fleet.proxy("other-1", LABELS={"app": "other"})).outbound
    assert other.secrets == {}
    assert other.clusters[name].tls != tls
    elsewhere = mesh.scope(fleet.proxy("client-1", "elsewhere", LABELS=CLIENT)).outbound
    assert elsewhere.secrets == {}
    router = mesh.scope(fleet.proxy("gw-1", kind="router", LABELS=CLIENT)).outbound
    assert router.secrets == {}


def test_without_the_secret_nothing_leads_to_the_host() -> None:
    """Row SEC57 of the hostile inputs."""
    chosen = selecting_mesh().scope(fleet.proxy(LABELS=CLIENT)).outbound
    assert "outbound|80||web.default.svc.cluster.local" not in chosen.clusters
    assert chosen.secrets == {}
