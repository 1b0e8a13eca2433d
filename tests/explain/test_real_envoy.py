"""Explain never lies: a real Envoy does with random requests over random meshes what it says.

A seeded sample in `make test`; 1,000 requests over 50 meshes in `make test-long`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from crds import parse
from istiod.config.store import ConfigStore
from istiod.envoy import wellknown
from istiod.envoy.compiler import Compiler
from istiod.explain import held, proxy
from istiod.explain.answer import Answer, End, Stage
from istiod.explain.call import Call, Direction, Tls
from istiod.explain.held import Held
from istiod.mesh import context
from tests.envoy.guarded import Certificates
from tests.explain import random_meshes, real
from tests.explain.random_meshes import Chance
from tests.mesh import fleet

pytestmark = pytest.mark.envoy
_KEY = ec.generate_private_key(ec.SECP256R1())
_JWK = {**jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key(), as_dict=True), "kid": "k", "alg": "ES256"}
KEYS = json.dumps({"keys": [_JWK]})
_WAYS = {"outbound": random_meshes.CLIENT, "inbound": random_meshes.SERVER, "gateway": random_meshes.GATEWAY}


def sign(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, _KEY, "ES256", headers={"kid": "k"})


def proxies(texts: list[str]) -> dict[str, Held]:
    store, compiler = ConfigStore(), Compiler()
    for one in random_meshes.WORLD:
        store.apply(fleet.parsed(one))
    for text in texts:
        item = parse.parse(yaml.safe_load(text)).object
        if item is not None:  # chance also writes what the checks refuse
            store.apply(item)
    mesh = context.build(store.snapshot())
    return {
        way: held.of_resources(compiler.compile(context.scope(mesh, one), mesh.endpoints, context.view(mesh, one)))
        for way, one in _WAYS.items()
    }


def called(said: dict[str, Any], moment: float) -> Call:
    direction = Direction(said["way"])
    places = {
        Direction.OUTBOUND: (said["address"], 80),
        Direction.INBOUND: ("10.1.0.1", 8080),
        Direction.GATEWAY: ("10.1.0.4", 8080),
    }
    destination, port = places[direction]
    namespace, _, account = said["account"].partition("/")
    return Call(
        direction=direction,
        source="127.0.0.1",  # where the connections of this test come from, whatever is said of them
        destination=destination,
        port=port,
        tls=Tls.MUTUAL if said["mtls"] else Tls.NONE,
        sni="x" if said["mtls"] else "",
        alpn=("istio-http/1.1", "istio") if said["mtls"] else (),
        principal=f"spiffe://cluster.local/ns/{namespace}/sa/{account}" if said["mtls"] else "",
        authority=said["authority"],
        path=said["path"],
        method=said["method"],
        headers=said["headers"],
        moment=moment,
    )


def differences(answer: Answer, seen: real.Seen) -> Iterator[str]:
    """Where an answer is not what Envoy did."""
    if answer.doubts or answer.end is End.UNDECIDED:
        yield f"undecided: {answer.doubts}"
        return
    if answer.end is End.CLOSE:
        if seen.status:
            yield f"said closed, was {seen.status}"
        return
    if seen.log and answer.facts.get("chain", "") != (seen.log["chain"] or ""):
        yield f"chain {seen.log['chain']}"
    if answer.end is End.ANSWER:
        if seen.status != answer.status or seen.echo:
            yield f"answered {seen.status}"
        if seen.headers.get("location", "") != answer.location:
            yield f"location {seen.headers.get('location')}"
        return
    yield from _forwarded(answer, seen)


def _forwarded(answer: Answer, seen: real.Seen) -> Iterator[str]:
    if seen.log.get("details") == "cluster_not_found" and any(one.hosts == () for one in answer.targets):
        return  # a part of the requests, as the answer says
    target = next((one for one in answer.targets if one.cluster == seen.log.get("cluster")), None)
    if target is None or target.call is None:
        yield f"{seen.status} by {seen.log}"
        return
    if bool(target.hosts) != bool(seen.echo):
        yield f"{seen.status}, endpoints {target.hosts}"
    if (seen.log["rule"] or "- -") != _rule(answer):
        yield f"rule {seen.log['rule']}"
    if seen.echo:
        yield from _sent(target.call, seen.echo)


def _rule(answer: Answer) -> str:
    """The rule as the access log says it."""
    step = answer.step(Stage.ROUTE)
    if step is None or step.origin is None:
        return "- -"
    return f"{wellknown.config_path(step.origin.key)} {step.origin.field}"


def _sent(call: Call, echo: Mapping[str, Any]) -> Iterator[str]:
    got = {name.lower(): value for name, value in echo["headers"].items()}
    if (echo["path"], got["host"]) != (call.path, call.authority):
        yield f"sent as {got['host']}{echo['path']}"
    for name in ("x-a", "x-b", "x-c", "x-d", "end-user"):
        if got.get(name, "") != call.headers.get(name, ""):
            yield f"header {name} sent as {got.get(name)!r}"


async def compared(seed: int, count: int, folder: Path, certificates: Certificates) -> tuple[list[str], Counter[str]]:
    """The differences of one mesh, and how often each end was seen."""
    chance = Chance(seed, KEYS, sign)
    texts = chance.objects()
    found, ends = [], Counter[str]()
    mine = proxies(texts)
    moment = time.time()
    async with real.running(mine, folder, certificates) as envoy:
        for _ in range(count):
            said = chance.request(moment)
            call = called(said, moment)
            answer = proxy.explain(mine[said["way"]], call)
            seen = await envoy.ask(said["way"], call, said["account"])
            ends[f"{said['way']} {answer.end.value} {answer.status or ''}"] += 1
            wrong = list(differences(answer, seen))
            if wrong:
                told = f"{answer.end} {answer.status} {answer.detail} {answer.facts}"
                found.append(f"seed {seed}: {said}\n  said {told}\n  but {wrong}")
    return ([*found, yaml.safe_dump_all(yaml.safe_load(one) for one in texts)] if found else []), ends


async def judge(seeds: range, count: int, folder: Path) -> Counter[str]:
    certificates, ends = Certificates(folder), Counter[str]()
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        found, seen = await compared(seed, count, place, certificates)
        ends += seen
        assert not found, "\n".join(found)
    return ends


async def test_envoy_does_what_explain_says_with_a_sample(tmp_path: Path) -> None:
    ends = await judge(range(4), 25, tmp_path)
    assert {"outbound", "inbound", "gateway"} == {one.split()[0] for one in ends}, ends


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_envoy_does_what_explain_says_with_1000_requests_over_50_meshes(tmp_path: Path) -> None:
    ends = await judge(range(100, 150), 20, tmp_path)
    assert ends.total() == 1000
    assert len(ends) > 10, ends
