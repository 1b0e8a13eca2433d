"""The engine on real Envoys: all requests of a mesh's tests are sent at once, then each test is told what came."""

from __future__ import annotations

import asyncio
import json
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from istioctl.explain.log_line import Past
from istioctl.offline.world import Names, Workload, World
from istioctl.testing import asking
from istioctl.testing.compiled import Compiled
from istioctl.testing.envoys import mesh as local
from istioctl.testing.envoys import replies, staging
from istioctl.testing.envoys.probe import Asked
from istioctl.testing.seen import Ending, Seen
from istioctl.testing.spec import Case, Place
from istiod.config.origin import Origin
from istiod.explain import question
from istiod.explain.question import Question

_FEW, _MANY = 10, 400
_PATIENCE: Final = 10.0
_LOOK: Final = 0.3
_HOUR: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A test's request: from which pod, and how it is told from others in access logs. ``skipped``: why not."""

    case: Case
    pod: str = ""
    asked: Asked | None = None
    tag: str = ""
    logged: bool = False
    """Whether the first proxy on its way certainly logs it under the tag."""
    skipped: str = ""
    hint: str = ""


class Envoys:
    """See istioctl.testing.seen.Engine. The tests that it is made with are those that it can be asked of."""

    def __init__(self, world: World, texts: Mapping[str, bytes], flags: str, cases: Sequence[Case]) -> None:
        """``texts`` are the files of the world.

        Raises:
            CommandError: a test names what the mesh does not have, or the mesh does not come up.
        """
        self._world = world
        self._names = Names(world)
        self._compiled = Compiled(world, flags)
        self._members = self._compiled.members
        self._key = ec.generate_private_key(ec.SECP256R1())
        sent = [self._sent(case, number) for number, case in enumerate(cases)]
        if all(one.asked is None for one in sent):
            found = [Seen(skipped=one.skipped) for one in sent]
        else:
            with tempfile.TemporaryDirectory() as folder:
                file = pathlib.Path(folder, "mesh.yaml")
                file.write_text(self._staged(texts, cases))
                found = asyncio.run(_run(file, sent, self._proxies()))
        self._seen = dict(zip(map(id, cases), found, strict=True))

    def see(self, case: Case) -> Seen:
        """See Engine."""
        return self._seen[id(case)]

    def holds(self, place: Place, ending: Ending) -> bool:
        """See Engine."""
        if place.outside or not ending.workload:
            return False
        if place.workload and ending.workload not in self._members.workloads(place):
            return False
        return not place.service or ending.workload in self._members.behind(place)

    def cause(self, origin: Origin) -> str:
        """See Engine."""
        return self._compiled.cause(origin)

    def _proxies(self) -> list[str]:
        """The pods that have an Envoy."""
        return [_pod(one) for one in self._names.every if one.proxied]

    def _staged(self, texts: Mapping[str, bytes], cases: Sequence[Case]) -> str:
        keys = ""
        if any(case.request.claims is not None for case in cases):
            own = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
            keys = json.dumps({"keys": [{**own, "kid": "istioctl", "alg": "ES256", "use": "sig"}]})
        ports = {asking.asked(case).port for case in cases}
        return staging.text(staging.documents(texts, self._world, ports, keys))

    def _sent(self, case: Case, number: int) -> _Sent:
        asked = asking.asked(case)
        sender = asking.sender(case.source, self._names)
        if reason := self._reason(case, asked):
            return _Sent(case=case, skipped=reason)
        server = self._server(case, asked, sender)
        if not server:
            return _Sent(case=case, skipped=f"no Service leads to port {asked.port} of the gateway")
        inside = sender is not None and not sender.router
        agent = asked.headers.get("user-agent", f"{replies.TAG}{number}")
        one = Asked(
            server=server,
            port=asked.port,
            scheme=asked.scheme,
            authority=asked.authority,
            path=asked.path,
            method=asked.method,
            headers=self._headers(asked, agent),
            sni=asked.sni or asked.host,
            count=_count(case),
        )
        pod = _pod(sender) if inside and sender is not None else "/".join(staging.OUTSIDE)
        logged = asked.http and sender is not None and sender.proxied and agent.startswith(replies.TAG)
        hint = self._compiled.see(case).hint
        return _Sent(case=case, pod=pod, asked=one, tag=agent, logged=logged, hint=hint)

    def _reason(self, case: Case, asked: Question) -> str:
        """Why a test is not one for a mesh on this machine."""
        if case.source.address:
            return "requests come from another address than from.address in a mesh on this machine"
        if asked.address or question.is_address(asked.host):
            return "addresses are others in a mesh on this machine: name the host"
        if any(one.left for one in self._compiled.see(case).endings):
            return "the request leaves the mesh, and there is nothing outside of a mesh on this machine"
        return ""

    def _server(self, case: Case, asked: Question, sender: Workload | None) -> str:
        """The host that the client connects to; "" for none."""
        if sender is None or not case.source.gateway:
            return self._compiled.reachable(asked, "" if sender is None else sender.pod.namespace)
        table = self._world.context.endpoints
        for service in self._world.context.model.registry.in_namespace(sender.pod.namespace):
            if any(one.address == sender.address for one in table.of(service.host, service.namespace, asked.port)):
                return service.host
        return ""

    def _headers(self, asked: Question, agent: str) -> dict[str, str]:
        headers = {**{name: value for name, value in asked.headers.items() if name != "host"}}
        headers["user-agent"] = agent
        if asked.claims is not None:
            claims = {"exp": int(time.time()) + _HOUR, **asked.claims}
            headers["authorization"] = f"Bearer {jwt.encode(claims, self._key, 'ES256', headers={'kid': 'istioctl'})}"
        return headers


def _pod(one: Workload) -> str:
    """A pod as the local mesh calls it."""
    return f"{one.pod.namespace}/{one.pod.name}"


def _count(case: Case) -> int:
    weighted = any(place.weight is not None for place in case.expect.reaches or ())
    return _MANY if weighted else _FEW


async def _run(file: pathlib.Path, sent: Sequence[_Sent], proxies: Sequence[str]) -> list[Seen]:
    """Send all, then read the access logs."""
    async with local.running(file) as mesh:
        await mesh.settled(len(proxies))
        found = await _replies(mesh, sent)
        past = await _past(mesh, sent, proxies)
    return [
        replace(replies.seen(found[number], past.get(one.tag)), hint=one.hint)
        if number in found
        else Seen(skipped=one.skipped)
        for number, one in enumerate(sent)
    ]


async def _replies(mesh: local.Mesh, sent: Sequence[_Sent]) -> dict[int, list[dict[str, Any]]]:
    """By the test's number; those of a pod are sent in one go."""
    by_pod: dict[str, dict[int, dict[str, Any]]] = {}
    for number, one in enumerate(sent):
        if one.asked is not None:
            by_pod.setdefault(one.pod, {})[number] = asdict(one.asked)
    several = await asyncio.gather(*(mesh.ask(pod, list(mine.values())) for pod, mine in by_pod.items()))
    answered = zip(by_pod.values(), several, strict=True)
    return {number: each for mine, answers in answered for number, each in zip(mine, answers, strict=True)}


async def _past(mesh: local.Mesh, sent: Sequence[_Sent], proxies: Sequence[str]) -> dict[str, list[Past]]:
    """What was logged, once all that is waited for is; Envoy writes its logs every second."""
    wanted = {one.tag for one in sent if one.logged}
    end = time.monotonic() + _PATIENCE
    while True:
        found = replies.logged(await asyncio.gather(*map(mesh.log, proxies)))
        if wanted <= found.keys() or time.monotonic() > end:
            return found
        await asyncio.sleep(_LOOK)
