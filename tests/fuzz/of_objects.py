"""What users and API servers give istiod: objects of every kind, folders, mesh configuration, key sets."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import yaml

from crds import duration, jwks, lines, proxy_annotation, shared_mesh
from crds.checks import cel
from crds.key import ConfigKey
from crds.mesh_config import MeshConfig
from crds.parse import parse, part_of_text
from istioctl.errors import CommandError
from istioctl.offline import world
from istiod import ca_secrets, features, folders
from istiod.config.kubernetes import Event, Verb
from istiod.envoy.compiler import Compiler
from istiod.explain import matching, question, tokens
from istiod.explain.call import Call, UndecidedError
from istiod.jwks import fetch, guard
from istiod.supervision import SettingsError
from istiod.watch import kinds, objects, selection
from tests.debug.plane import SHOP
from tests.fuzz import of_wire
from tests.fuzz.target import Target, edited, joined, parts, text
from tests.generated.configurations import configuration
from tests.jwks.made import ec_signer, key_set, rsa_signer
from webhook import annotations, values
from wire import node, spiffe, variables

KEY = ConfigKey("", "ConfigMap", "istio-system", "istio")
HERE = Path(__file__).parent
PLACE = objects.Place(
    root_namespace="istio-system", revision="default", mesh_config="istio", config_maps=frozenset(("istio",))
)
GIVEN = """
accessLogFile: /dev/stdout
accessLogFormat: '{"a": "%PROTOCOL%"}'
trustDomain: a.b
discoverySelectors: [{matchLabels: {a: b}}]
defaultConfig: {concurrency: 2, holdApplicationUntilProxyStarts: true, tracing: {sampling: 50}}
extensionProviders: [{name: z, zipkin: {service: z.demo, port: 9411}}]
localityLbSetting: {failover: [{from: a, to: b}]}
"""


@functools.cache
def documents() -> list[list[Any]]:
    """Meshes: BookInfo, one with all that a gateway needs, and generated ones, which have fields of every kind."""
    bookinfo = Path(__file__).parents[2] / "examples" / "bookinfo"
    known = [bookinfo / "bookinfo.yaml", *sorted((bookinfo / "networking").glob("*.yaml"))]
    meshes = [[each for file in known for each in yaml.safe_load_all(file.read_text()) if each]]
    meshes.append([each for each in yaml.safe_load_all(SHOP + (HERE / "mesh.yaml").read_text()) if each])
    meshes += [[*yaml.safe_load_all(SHOP), *json.loads(json.dumps(configuration(seed)))] for seed in range(6)]
    return meshes


def mesh(raw: bytes) -> None:
    """Objects with odd parts, built to a mesh and compiled for each of its workloads."""
    chosen = documents()[raw[0] % len(documents())] if raw else documents()[1]
    built("".join(f"---\n{json.dumps(each)}\n" for each in edited(chosen, raw[1:])).encode())


def folder(raw: bytes) -> None:
    """A file of a folder, as text."""
    built(raw)


def built(content: bytes) -> None:
    found = world.of_contents({"a.yaml": content, "b.json": content, "base.yaml": SHOP.encode()}, Compiler())
    for one in found.workloads()[:3]:
        found.resources(one)
    assert all(str(each) for each in found.findings)


def kubernetes(raw: bytes) -> None:
    """Events of an API server, of objects with odd parts; what can be read is kept, what not is a finding."""
    known = {(each.info.group, each.info.kind): each for each in kinds.watched("istio-system")}
    chosen = documents()[raw[0] % len(documents())] if raw else documents()[1]
    seen = objects.ObjectSet(PLACE)
    for number, (before, document) in enumerate(zip(chosen, edited(chosen, raw[1:]), strict=False)):
        group, _, _ = before["apiVersion"].rpartition("/")
        kind = known.get((group, before["kind"]))
        if kind is None or not isinstance(document, dict):
            continue
        # An API server gives each object a name, a uid and a version, whatever else it holds.
        metadata = document.get("metadata") if isinstance(document.get("metadata"), dict) else {}
        sure = {"name": f"n{number}", "uid": f"u{number}", "resourceVersion": "1"}
        raw_object = {**document, "metadata": {**metadata, **sure, "namespace": "demo" if kind.info.namespaced else ""}}
        objects.read(kind, raw_object)
        seen.take(kind, Event(verb=Verb.CHANGED, item=raw_object))
        seen.listed(kind)
    assert all(str(each) for each in seen.diagnostics)


def mesh_config(raw: bytes) -> None:
    said, shared = parts(raw, 2)
    merged = shared_mesh.merged(said, shared)
    part_of_text(MeshConfig, merged, KEY, "data.mesh")
    values.from_values(values.Texts(values=said, config=shared, mesh=merged))
    selection.selectors(said, ())
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
    parse({**document, "data": {"mesh": said}})
    built(json.dumps({**document, "data": {"mesh": said}}).encode())


def injector(raw: bytes) -> None:
    """The injector's two texts and the mesh's."""
    of_chart, config, mesh_text = parts(raw, 3)
    values.from_values(values.Texts(values=of_chart, config=config, mesh=mesh_text))


def keys(raw: bytes) -> None:
    said = text(raw)
    jwks.has_private(jwks.read(said))
    jwks.usable(said)


def key_location(raw: bytes) -> None:
    """What an issuer says of where its keys are, and whether it may be asked there."""
    found = jwks.document(text(raw))
    uri = found.get("jwks_uri") if isinstance(found, dict) else ""
    with contextlib.suppress(ValueError):  # as whoever fetches there takes it
        fetch.Fetcher(guard.Guard(), lambda _: frozenset())._require(str(uri))
    guard.Guard().lets(str(uri).partition("://")[2])


def expression(raw: bytes) -> None:
    cel.parse(text(raw))


def label(raw: bytes) -> None:
    cel.parse_label(text(raw))


def a_duration(raw: bytes) -> None:
    duration.parse(text(raw))


def of_text(raw: bytes) -> None:
    """YAML or JSON, and where its fields stand."""
    for name in ("a.yaml", "a.json"):
        for chunk in lines.split(name, text(raw)):
            lines.find(chunk)
            try:
                found = lines.load(name, chunk)
            except lines.UnreadableError:
                continue
            list(itertools.islice(lines.unroll(found), 1_000))


def notes(raw: bytes) -> None:
    """A pod's annotation: name and value."""
    name, said = parts(raw, 2)
    list(annotations.check({name: said}, KEY))
    for each in (*annotations.CHECKS, proxy_annotation.NAME, annotations.TEMPLATES, annotations.OVERRIDES):
        list(annotations.check({each: said}, KEY))
    list(proxy_annotation.check(said, KEY))


def a_node(raw: bytes) -> None:
    name, metadata = parts(raw, 2)
    try:
        said = json.loads(metadata)
    except (ValueError, RecursionError):
        return
    node.parse(name, said if isinstance(said, dict) else {})


def identity(raw: bytes) -> None:
    found = spiffe.parse(text(raw))
    assert str(found) == text(raw)


def environment(raw: bytes) -> None:
    """istiod's variables: a value for each of them."""
    for name in features.NAMES:
        features.read({name: text(raw)})
    variables.in_vain({text(raw)[:50]: "x"})


def secrets(raw: bytes) -> None:
    """The CA's Secrets with odd parts, as the API server gives them."""
    data = [{"ca-cert.pem": "YQ==", "x": "!"}]
    for each in edited(data, raw):
        ca_secrets.kept({"metadata": {"name": "cacerts"}, "data": each})
    ca_secrets._seen(raw, 1, fresh=True)


def public_key(raw: bytes) -> None:
    path = Path("/dev/shm") / "fuzz-key.pem"  # noqa: S108 (memory: thousands of times)
    path.write_bytes(raw)
    folders.public_key(str(path))


def asked(raw: bytes) -> None:
    """A question to explain: URL, header, claims, token, cookie."""
    url, header, claims, path = parts(raw, 4)
    question.parsed(url)
    question.headers([header])
    question.claims(claims)
    question.is_address(url)
    matching.parameters(path)


def presented(raw: bytes) -> None:
    """A token and a key set, as explain judges them for Envoy."""
    token, key_text = parts(raw, 2)
    config = tokens.config_pb2.JwtAuthentication()
    config.providers["p"].issuer = "https://issuer.example"
    config.providers["p"].local_jwks.inline_string = key_text
    config.rules.add().requires.provider_name = "p"
    config.rules[0].match.prefix = "/"
    headers = {"authorization": f"Bearer {token}"}
    tokens.check(config, Call(destination="10.0.0.1", port=80, headers=headers, moment=1.0))


@functools.cache
def signer() -> Any:
    return ec_signer()


def _targets() -> tuple[Target, ...]:
    some = [json.dumps(each).encode() for each in documents()[1]]
    whole = b"".join(b"---\n" + each + b"\n" for each in some)
    plain = "---\n".join(yaml.safe_dump(each) for each in documents()[1]).encode()
    numbers = bytes(range(len(documents())))
    return (
        Target(name="mesh", call=mesh, refusals=(CommandError,), seeds=tuple(bytes((n,)) for n in numbers)),
        Target(name="folder", call=folder, refusals=(CommandError,), seeds=(plain[:6_000], whole[:6_000], *some)),
        Target(name="kubernetes", call=kubernetes, seeds=tuple(bytes((n,)) for n in numbers)),
        Target(name="mesh-config", call=mesh_config, seeds=(joined(GIVEN, "a: b"), joined("", GIVEN), b"- a")),
        Target(
            name="injector",
            call=injector,
            seeds=(
                joined("{global: {hub: a, tag: 1, proxy: {resources: {}}}}", "policy: enabled", GIVEN),
                joined("", "templates: {a: 'spec: {}'}\ndefaultTemplates: [a]\nalwaysInjectSelector: [{}]", ""),
            ),
        ),
        Target(
            name="key-set",
            call=keys,
            refusals=(jwks.KeySetError,),
            seeds=(key_set(ec_signer(), rsa_signer()).encode(), b'{"keys": [{"kty": "oct", "k": "YQ"}]}'),
        ),
        Target(
            name="issuer",
            call=key_location,
            refusals=(jwks.KeySetError, fetch.FetchError),
            seeds=(b'{"issuer": "a", "jwks_uri": "https://a.b/keys"}', b'{"jwks_uri": "https://10.0.0.1"}'),
        ),
        Target(
            name="cel",
            call=expression,
            refusals=(cel.BadExpressionError,),
            seeds=(
                b"response.code >= 400 && request.headers['a'] == \"b\"",
                b"!(has(request.host)) || xds.cluster_name.startsWith('a') ? 1 + 2 * -3.5 : [1, {'a': 2}][0]",
            ),
        ),
        Target(
            name="cel-label",
            call=label,
            refusals=(cel.BadExpressionError,),
            seeds=(b"request.host", b"string(response.code)"),
        ),
        Target(name="duration", call=a_duration, refusals=(ValueError,), seeds=(b"1h2m3.5s", b"-1.5ms", b"0")),
        Target(
            name="text", call=of_text, seeds=(plain[:3_000], whole[:3_000], b"a: &x {b: [1, 0x1F, 1e3, ~]}\nc: *x\n")
        ),
        Target(
            name="annotation",
            call=notes,
            seeds=(
                joined("proxy.istio.io/config", "concurrency: 1"),
                joined("sidecar.istio.io/statsHistogramBuckets", '{"a": [1, 2]}'),
                joined("sidecar.istio.io/userVolume", '{"a": {"emptyDir": {}}}'),
                joined("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8,::/0"),
            ),
        ),
        Target(
            name="node",
            call=a_node,
            refusals=(ValueError,),
            seeds=(joined(of_wire.NODE, '{"LABELS": {"a": "b"}, "INSTANCE_IPS": "10.0.0.1,::1"}'),),
        ),
        Target(
            name="spiffe",
            call=identity,
            refusals=(ValueError,),
            seeds=(b"spiffe://cluster.local/ns/demo/sa/app", b"spiffe://a/ns/b/sa/c/../d"),
        ),
        Target(name="environment", call=environment, seeds=(b"10.0.0.0/8", b"1h", b"50", b"true", b"hybrid")),
        Target(
            name="ca-secrets",
            call=secrets,
            seeds=(b"", b"\0\1\2", b'{"longest": 1, "missing": 2, "fingerprint": 1, "old": 3}'),
        ),
        Target(
            name="public-key",
            call=public_key,
            refusals=(SettingsError,),
            seeds=(_public(),),
        ),
        Target(
            name="question",
            call=asked,
            refusals=(question.QuestionError,),
            seeds=(
                joined("https://a.b:8443/c?d=e", "x: y", '{"iss": "a"}', "/a?b=c&b=d;e%20f"),
                joined("tcp://[::1]:9000", "host: a", "", "/?%"),
            ),
        ),
        Target(
            name="presented-token",
            call=presented,
            refusals=(UndecidedError,),
            seeds=(
                joined(signer().token(), key_set(signer())),
                joined(signer().token(aud=[1], exp="x"), '{"keys": [1]}'),
            ),
        ),
    )


def _public() -> bytes:
    public = of_wire.key().public_key()
    return public.public_bytes(
        of_wire.serialization.Encoding.PEM, of_wire.serialization.PublicFormat.SubjectPublicKeyInfo
    )


TARGETS = _targets()
