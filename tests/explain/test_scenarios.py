"""Explain against the judge of the conformance groups, on calls of recorded scenarios. Both read the same messages.

The judge looks neither at the names of mTLS clients nor at what a fault ends, so calls of that kind are passed over.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance import instruments, made_up
from conformance.replay import Mesh
from istiod.explain import held, proxy
from istiod.explain.answer import Answer, End
from istiod.explain.call import Call, Direction, Tls

_TLS = {"plaintext": Tls.NONE, "tls": Tls.SIMPLE, "mtls": Tls.MUTUAL}
_OURS = "spiffe://cluster.local/"
_PASSED = ("no healthy upstream", "the route answers itself", "the proxy answers", "redirect to")
_SAMPLE = ("authz-http", "bookinfo-full", "gateway-servers", "jwt-routing", "se-kinds", "vs-match")


def called(said: Any) -> Call:
    return Call(
        direction=Direction(said.direction),
        source=said.source_ip,
        source_port=said.source_port,
        destination=said.dest_ip,
        port=said.dest_port,
        http=said.is_http,
        http2=said.protocol == "http2",
        tls=_TLS[said.tls],
        sni=said.sni,
        alpn=tuple(said.alpn),
        principal=said.principal,
        authority=said.host,
        path=said.path,
        method=said.method,
        headers=said.headers,
        claims=said.jwt,
    )


def comparable(said: Any) -> bool:
    known = said.tls != "mtls" or said.principal.startswith(_OURS)
    return known and not (said.jwt and said.jwt.get("@invalid"))


def passes(answer: Answer) -> bool:
    """Whether the judge would say that nothing ended the call early."""
    return answer.end is End.FORWARD or answer.detail.startswith(_PASSED)


def differences(folder: Path, chance: random.Random, most: int) -> Iterator[str]:
    judge = instruments.tool("xdssim")
    generate = instruments.tool("xdssim.calls").generate
    files = {one.name: one.read_bytes() for one in (folder / "input").iterdir()}
    texts = "\n---\n".join(text.decode() for text in files.values())
    mesh = Mesh({**files, "secrets.yaml": made_up.secrets(texts, "").encode()})
    for name, one in json.loads((folder / "proxies.json").read_text())["proxies"].items():
        found = held.of_resources(mesh.resources(one["node_id"], one["metadata"]))
        snapshot = mesh.snapshot(one["node_id"], one["metadata"])
        calls = [each for each in generate(snapshot) if comparable(each)]
        for each in chance.sample(calls, min(most, len(calls))):
            wanted, answer = judge.simulate(snapshot, each), proxy.explain(found, called(each))
            if answer.detail.startswith(("fault", "HTTPS is asked for", "the client is ")):
                continue
            theirs = sorted((part["name"], round(part["weight"])) for part in wanted.clusters)
            ours = sorted((part.cluster, round(part.share)) for part in answer.targets)
            say = (wanted.error is None, wanted.filter_chain, wanted.route, theirs)
            mine = (passes(answer), answer.facts.get("chain", ""), answer.facts.get("route", ""), ours)
            if say != mine:
                yield f"{folder.name} {name} {each.name}: {wanted.error} {say}, not {answer.detail} {mine}"


def folders() -> list[Path]:
    found = sorted(one.parent for one in (instruments.root() / "scenarios").glob("*/proxies.json"))
    if not found:
        pytest.skip("no scenarios below CONFORMANCE")
    return found


def test_a_sample_of_calls_comes_out_as_the_judge_says() -> None:
    chance = random.Random(1)
    found = [each for one in folders() if one.name in _SAMPLE for each in differences(one, chance, 60)]
    assert found == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_call_of_every_scenario_comes_out_as_the_judge_says() -> None:
    found = [each for one in folders() for each in differences(one, random.Random(1), 100_000)]
    assert found == []
