"""What comes over istiod's gRPC sockets: HTTP/2, discovery requests, certificates, tokens. Of HTTP: of_http."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.service.discovery.v3 import discovery_pb2

from istiod import bearer
from istiod.ads import request as requests
from istiod.ads.auth import ClaimError, admit
from istiod.ads.session import AdsSession, Shared
from istiod.ca import authority, keystore, renewal, rollover, server, tokens
from istiod.config.proxy import Peer
from istiod.drain import service as drain
from istiod.envoy import blame
from istiod.grpcserver import frames
from istiod.grpcserver import request as calls
from istiod.grpcserver.status import RpcError
from istiod.grpcserver.stream import Client
from istiod.kube import token_review
from istiod.mesh.departure import Departure
from protos import ca_pb2, drain_pb2
from tests.ads import made
from tests.fuzz.target import Target, joined, parts, run, text
from tests.grpcserver import wire
from wire import names, spiffe

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NODE = "sidecar~10.0.0.1~app.demo~demo.svc.cluster.local"
ME = spiffe.Identity("cluster.local", "demo", "app")
CALL = calls.Request(path="/x", metadata=((b"authorization", b"Bearer good"),))
STREAM = b"\x1e\x1e"
"""Between two requests of a stream."""


class Knows:
    """A verifier that knows one token."""

    async def verify(self, said: str) -> spiffe.Identity | None:
        return ME if said == "good" else None


@functools.cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def ca() -> authority.Authority:
    return authority.Authority(authority.self_signed("cluster.local", NOW))


@functools.cache
def csr() -> bytes:
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(ME)), x509.DNSName("a.b")])
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(name, critical=False)
    return built.sign(key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@functools.cache
def chain() -> str:
    return ca().sign(csr().decode(), ME, dt.timedelta(hours=1), NOW)[0]


@functools.cache
def leaf() -> bytes:
    """Of a workload, DER."""
    return x509.load_pem_x509_certificate(chain().encode()).public_bytes(serialization.Encoding.DER)


def token(**more: object) -> str:
    said = tokens.mint(key(), tokens.Account(namespace="demo", service_account="app", pod="app-1"), NOW)
    claims = jwt.decode(said, options={"verify_signature": False})
    return jwt.encode({**claims, **more}, key(), algorithm="ES256")


def http2(raw: bytes) -> None:
    """All of a connection: what ends is told once, and a closed connection has no streams."""
    peer = wire.Wire(echo=True, accept=1 << 16, greet=False)
    for at in range(0, len(raw), 1_000):
        peer.say(raw[at : at + 1_000])
        peer.hear()
    assert all(call.events.count("lost") <= 1 for call in peer.calls)
    assert not peer.http.closed or not peer.http.streams


def greeted(*sent: bytes) -> bytes:
    return frames.PREFACE + frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1_000}) + b"".join(sent)


def discovery(raw: bytes) -> None:
    """The requests of a stream one after the other, as a server hears them."""
    stream = raw[:1]
    first, *more = raw[1:].split(STREAM)
    delta = stream != b"w"
    decode = requests.decode_delta if delta else requests.decode_sotw
    decoded = decode(first)
    if decoded.node is None:
        return
    admit(Peer(address="10.0.0.1:1", identity=ME), requests.claims(decoded.node))
    target = made.targets(made.cluster("c"), made.endpoints("c", 1), made.listener("l", 1, "r"), made.route("r", "c"))
    session = AdsSession(target, 0.0, delta=delta, shared=Shared())
    session.request(decoded.request)
    for moment, each in enumerate(more[:20]):
        session.plan(float(moment))
        session.request(decode(each).request)
    session.plan(100.0)
    session.status(101.0)
    for rejection in session.rejections():
        blame.findings(rejection.resource, rejection.error, ("app.demo",))


def asked(url: str = names.CLUSTER, *, first: bool = True, delta: bool = True, **more: object) -> bytes:
    kind = discovery_pb2.DeltaDiscoveryRequest if delta else discovery_pb2.DiscoveryRequest
    found = kind(type_url=url, **more)  # type: ignore[arg-type]  # fields of a test's own
    if first:
        found.node.id = NODE
        found.node.metadata["NAMESPACE"] = "demo"
        found.node.metadata["LABELS"] = {"app": "a"}
        found.node.metadata["PROXY_CONFIG"] = {"concurrency": 2}
        found.node.locality.region = "r"
    return bytes(found.SerializeToString())


def refused(*, delta: bool = True) -> bytes:
    found = (discovery_pb2.DeltaDiscoveryRequest if delta else discovery_pb2.DiscoveryRequest)(type_url=names.CLUSTER)
    found.response_nonce = "1"
    found.error_detail.code, found.error_detail.message = 13, "Error adding cluster c: bad \x1b[2J"
    return bytes(found.SerializeToString())


def signing(raw: bytes) -> None:
    service = server.CertificateService(ca(), Knows(), lambda: NOW)
    run(service.create_certificate(raw, CALL, Client(address="10.0.0.1:1")))


def certificates(raw: bytes) -> None:
    """A certificate of a client that the transport has verified."""
    client = Client(address="10.0.0.1:1", secure=True, certificate=raw)
    renewal.Renewals(lambda _, __: True, lambda: "cluster.local").allow(client, NOW)


def shows(raw: bytes) -> None:
    bearer.shown(raw)
    authority.shown(raw)


def judged(raw: bytes) -> None:
    """A token of a mesh without Kubernetes."""
    verifier = tokens.LocalTokenVerifier(key().public_key(), "cluster.local", lambda: NOW)
    run(verifier.verify(text(raw)))


def reviewed(raw: bytes) -> None:
    """A token, and what an API server says of it."""
    said, answer = parts(raw, 2)
    status = {}
    with contextlib.suppress(ValueError, RecursionError):  # of this reader: the client's own is the target api-errors
        status = json.loads(answer) if answer.isascii() and answer.startswith('{"authenticated"') else {}
    token_review.identity(status, "cluster.local", "istio-ca")

    class Says:
        async def request(self, *_: object, **__: object) -> dict[str, object]:
            return {"status": status}

    client: Any = Says()  # of a client it has what a verifier calls
    verifier = token_review.TokenReviewVerifier(client, "cluster.local", "istio-ca", lambda: 0.0)
    run(verifier.verify(said))


def drained(raw: bytes) -> None:
    left = Departure(identity=str(ME), addresses=("10.0.0.1",), hosts=frozenset(("a",)))
    known = {("demo", "app-1"): left}
    service = drain.DrainService(lambda ns, name: known.get((ns, name)), lambda *_: "", Knows())
    run(service.release(raw, CALL, Client(address="10.0.0.1:1")))


def by_certificate(raw: bytes) -> None:
    left = Departure(identity=str(ME), addresses=("10.0.0.1",), hosts=frozenset(("a",)))
    service = drain.DrainService(lambda *_: left, lambda *_: "", Knows())
    asked_for = drain_pb2.ReleaseRequest(namespace="demo", pod="app-1").SerializeToString()
    client = Client(address="10.0.0.1:1", secure=True, certificate=raw)
    run(service.release(asked_for, calls.Request(path="/x", metadata=()), client))


def authority_state(raw: bytes) -> None:
    """What a Secret holds of a CA's rotation, which anybody with a right to it may write."""
    rollover.load(text(raw))


def authority_material(raw: bytes) -> None:
    """A CA that a user plugs in: key, certificate, chain, roots."""
    key_, certificate, above, roots = (each.encode() for each in parts(raw, 4))
    material = keystore.unpack(
        {"ca-key.pem": key_, "ca-cert.pem": certificate, "cert-chain.pem": above, "root-cert.pem": roots}, "Secret x"
    )
    made_of = authority.Authority(material)
    assert made_of.root_expires
    assert made_of.ends


REFUSED = (requests.MalformedRequestError, requests.OversizedRequestError, requests.ForeignTypeError, ClaimError)


def _targets() -> tuple[Target, ...]:
    block = wire.Wire(greet=False)
    material = ca().serving(("istiod",), NOW)
    del material
    own = authority.self_signed("cluster.local", NOW)
    state = rollover.State(
        roots=(rollover.Root(pem=own.roots.decode(), ready=True, longest=1.0, until=0.0),), signer=own, since=1.0
    )
    delta = b"d" + STREAM.join((asked(), asked(names.ENDPOINT, first=False, resource_names_subscribe=["c"]), refused()))
    world = b"w" + STREAM.join((asked(delta=False), asked(names.ROUTE, first=False, delta=False, resource_names=["r"])))
    return (
        Target(
            name="http2",
            call=http2,
            seeds=(
                greeted(block.headers(), frames.frame(frames.DATA, 0, 1, wire.message(b"hello"))),
                greeted(frames.frame(frames.PING, 0, 0, b"12345678"), frames.window_update(0, 100), block.headers(3)),
                greeted(block.headers(1, end=True), frames.frame(frames.RST_STREAM, 0, 1, b"\0\0\0\x08")),
                greeted(
                    block.headers(1, [*wire.HEAD, ("grpc-timeout", "1S"), ("x", "y" * 200)]), b"\0\0\0\x09\4\0\0\0\1"
                ),
            ),
        ),
        Target(
            name="discovery", call=discovery, refusals=REFUSED, seeds=(delta, world, b"d", b"w" + refused(delta=False))
        ),
        Target(
            name="certificate-request",
            call=signing,
            refusals=(RpcError,),
            seeds=(
                ca_pb2.IstioCertificateRequest(csr=csr().decode(), validity_duration=60).SerializeToString(),
                ca_pb2.IstioCertificateRequest(csr="-----BEGIN", validity_duration=-1).SerializeToString(),
            ),
        ),
        Target(name="client-certificate", call=certificates, refusals=(RpcError,), seeds=(leaf(),)),
        Target(name="shown-certificate", call=shows, refusals=(ValueError,), seeds=(leaf(),)),
        Target(name="token", call=judged, seeds=(token().encode(), token(exp="x", sub=[1]).encode(), b"a.b.c")),
        Target(
            name="reviewed-token",
            call=reviewed,
            seeds=(
                joined(
                    token(),
                    '{"authenticated": true, "audiences": ["istio-ca"], "user": {"username": '
                    '"system:serviceaccount:demo:app"}}',
                ),
                joined(token(exp=1e400), '{"authenticated": true, "audiences": 3, "user": 4}'),
            ),
        ),
        Target(
            name="drain-request",
            call=drained,
            refusals=(RpcError,),
            seeds=(drain_pb2.ReleaseRequest(namespace="demo", pod="app-1").SerializeToString(),),
        ),
        Target(name="drain-certificate", call=by_certificate, refusals=(RpcError,), seeds=(leaf(),)),
        Target(
            name="ca-rotation-state",
            call=authority_state,
            refusals=(authority.AuthorityError,),
            seeds=(rollover.dump(state).encode(), b'{"roots": [], "signer": null, "since": 1}'),
        ),
        Target(
            name="plugged-in-ca",
            call=authority_material,
            refusals=(authority.AuthorityError,),
            seeds=(joined(*(each.decode() for each in (own.key, own.certificate, own.chain, own.roots))),),
        ),
    )


TARGETS = _targets()
