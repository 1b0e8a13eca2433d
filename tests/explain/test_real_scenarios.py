"""Explain against a real Envoy, on the calls that the judge makes of recorded scenarios.

Each proxy of a scenario is one Envoy with all its listeners. Calls come from loopback addresses, whatever source the
judge thinks of; tokens are signed with the test's key, which stands in for every issuer's. What explain itself says it
cannot tell (``doubts``), and what chance or a limit decides, is counted and passed over.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from conformance import instruments, made_up
from conformance.replay import Mesh
from istiod.explain import held, proxy
from istiod.explain.answer import Answer, End, Target
from istiod.explain.call import Call, Tls
from tests.envoy.guarded import Certificates
from tests.explain import real_proxy
from tests.explain.test_real_envoy import KEYS, sign
from tests.explain.test_scenarios import called, folders

pytestmark = pytest.mark.envoy
_SAMPLE: Final = ("gateway-servers", "jwt-routing", "vs-match")
_ACCOUNT: Final = re.compile(r"spiffe://cluster\.local/ns/[\w.-]+/sa/[\w.-]+")
_SOMEBODY: Final = "spiffe://cluster.local/ns/default/sa/default"
_SET_BY_ENVOY: Final = ("x-forwarded-for", "x-request-id", "content-length", "connection", "te")
_LIMITED: Final = 429


def spoken(said: Any, number: int) -> Call | None:
    """A call of the judge's as a client can make it; None where no client of ours can. ``number`` is nobody else's."""
    if said.random or said.method == "CONNECT" or "\n" in said.path or " " in said.path:
        return None
    principal = said.principal or _SOMEBODY
    if said.tls == "mtls" and not _ACCOUNT.fullmatch(principal):
        return None
    call = replace(
        called(said),
        claims=None,
        source=f"127.77.{number >> 8}.{number & 255}",
        principal=principal,
        moment=time.time(),
    )
    if call.tls is not Tls.MUTUAL:
        call = replace(call, principal="")
    if said.jwt is None:
        return call
    claims = {key: value for key, value in said.jwt.items() if key != "@invalid"}
    token = sign(claims)
    token = token[:-8] + "AAAAAAAA" if said.jwt.get("@invalid") else token
    return replace(call, headers={**call.headers, "authorization": f"Bearer {token}"})


def differences(answer: Answer, call: Call, seen: real_proxy.Seen) -> Iterator[str]:
    """Where an answer is not what Envoy did."""
    line = seen.lines[-1] if seen.lines else {}
    if answer.end is End.CLOSE:
        refused = not call.http and seen.lines and line["code"] == 400  # HTTP's way to hang up
        if not refused and (seen.status not in (0, 400) or seen.echo or line.get("sent")):
            yield f"said closed, was {seen.status}"
        return
    if not line:
        yield f"{seen.status} and no line in the log"
        return
    if answer.facts.get("chain", "") != (line["chain"] or ""):
        yield f"chain {line['chain']}"
    if answer.end is End.ANSWER:
        if (seen.status, bool(seen.echo)) != (answer.status, False):
            yield f"answered {seen.status}"
        if seen.headers.get("location", "") != answer.location:
            yield f"location {seen.headers.get('location')}"
        return
    yield from _forwarded(answer, seen, line)


def _upstream(line: Any) -> bool:
    return bool(line) and line.get("host") not in (None, "-")


def _forwarded(answer: Answer, seen: real_proxy.Seen, line: Any) -> Iterator[str]:
    cluster = line["cluster"]
    target = next((one for one in answer.targets if one.cluster == cluster), None)
    if target is None:
        if not any(one.hosts == () for one in answer.targets):
            yield f"{seen.status} by {line}"
        return
    if (target.hosts != ()) != _upstream(line):
        yield f"{seen.status}, endpoints {target.hosts}: {line}"
    if line["route"] is not None and answer.facts.get("route", "") != line["route"]:
        yield f"route {line['route']}"
    if seen.echo and "table" in answer.facts:
        yield from _sent(target, seen)


def _sent(target: Target, seen: real_proxy.Seen) -> Iterator[str]:
    call = target.call
    assert call is not None
    got = {name.lower(): value for name, value in seen.echo["headers"].items()}
    if (seen.echo["path"], got["host"]) != (call.path, call.authority):
        yield f"sent as {got['host']}{seen.echo['path']}, not {call.authority}{call.path}"
    for name, value in call.headers.items():
        if name not in _SET_BY_ENVOY and name not in call.unknown and got.get(name, "") != value:
            yield f"header {name} sent as {got.get(name)!r}, not {value!r}"


def told(answer: Answer, seen: real_proxy.Seen) -> str:
    """Why an answer is not compared; "" where it is."""
    if answer.end is End.UNDECIDED or answer.doubts:
        return "cannot be told"
    if answer.aborts:
        return "chance"
    return "a limit ran out" if seen.status == _LIMITED and not answer.status else ""


async def compared(folder: Path, place: Path, most: int) -> tuple[list[str], Counter[str]]:
    """The differences of one scenario, and how many calls there were of each kind."""
    generate, chance = instruments.tool("xdssim.calls").generate, random.Random(1)
    files = {one.name: one.read_bytes() for one in (folder / "input").iterdir()}
    texts = "\n---\n".join(text.decode() for text in files.values())
    mesh = Mesh({**files, "secrets.yaml": made_up.secrets(texts, "").encode()})
    certificates, found, counts = Certificates(place), list[str](), Counter[str]()
    for name, one in json.loads((folder / "proxies.json").read_text())["proxies"].items():
        mine = real_proxy.with_keys(held.of_resources(mesh.resources(one["node_id"], one["metadata"])), KEYS)
        made = generate(mesh.snapshot(one["node_id"], one["metadata"]))
        chosen = list(enumerate(chance.sample(made, min(most, len(made)))))
        said = [(each.name, call) for number, each in chosen if (call := spoken(each, number))]
        counts["no client makes it"] += min(most, len(made)) - len(said)
        (own := place / name).mkdir()
        for (what, call), seen in zip(
            said, await real_proxy.ask(mine, [call for _, call in said], own, certificates), strict=True
        ):
            answer = proxy.explain(mine, call)
            why = told(answer, seen)
            counts[why or f"{call.direction.value} {answer.end.value}"] += 1
            if not why and (wrong := list(differences(answer, call, seen))):
                text = f"{answer.end.value} {answer.status} {answer.detail} {dict(answer.facts)}"
                found.append(f"{folder.name} {name} {what}: {call}\n  said {text}\n  but {wrong}\n  {seen}")
    return found, counts


async def test_envoy_does_what_explain_says_with_a_sample(tmp_path: Path) -> None:
    for folder in folders():
        if folder.name in _SAMPLE:
            (place := tmp_path / folder.name).mkdir()
            found, counts = await compared(folder, place, 40)
            assert not found, "\n".join(found)
            assert counts.total() > counts["cannot be told"] + counts["no client makes it"], counts


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(5))
async def test_envoy_does_what_explain_says_with_every_call_of_every_scenario(tmp_path: Path, part: int) -> None:
    found, counts = list[str](), Counter[str]()
    for folder in folders()[part::5]:
        (place := tmp_path / folder.name).mkdir()
        wrong, seen = await compared(folder, place, 100_000)
        found += wrong
        counts += seen
    assert not found, "\n".join(found)
    assert counts.total() > 1000, counts
