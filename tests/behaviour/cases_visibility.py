"""Who sees what of a namespace: three namespaces' proxies, and all that each was told (SEC66).

Every step has names of its own: what a proxy was told before lingers with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from tests.ads.real_envoy import RunningEnvoy
from tests.behaviour.case import Cases
from tests.behaviour.rig import Rig
from tests.waiting import until

CASES = Cases()
ALL = frozenset({"default", "other", "third"})
NOBODY: frozenset[str] = frozenset()
PORTS = """
kind: MeshConfig
spec: {proxyListenPort: $caught, proxyInboundListenPort: $entered}
"""
"""For the proxies that are for this case alone: they listen as if traffic were captured for them."""
HIDDEN = """
kind: ServiceEntry
metadata: {name: hidden, namespace: other}
spec:
  hosts: [entry-%(step)s.example]
  exportTo: %(said)s
  resolution: STATIC
  ports: [{number: $http, name: http, protocol: HTTP}]
  endpoints: [{address: 192.0.2.%(step)s}]
---
kind: Service
metadata: {name: service-%(step)s, namespace: other, annotations: {networking.istio.io/exportTo: '%(annotation)s'}}
spec: {clusterIP: 10.0.0.30, selector: {app: hidden}, ports: [{name: http, port: $http, targetPort: $app}]}
---
kind: EndpointSlice
metadata: {name: hidden-1, namespace: other, labels: {kubernetes.io/service-name: service-%(step)s}}
addressType: IPv4
ports: [{name: http, port: $app}]
endpoints: [{addresses: [198.51.100.%(step)s], conditions: {ready: true}}]
---
"""
RULES = """
kind: VirtualService
metadata: {name: hidden, namespace: other}
spec:
  hosts: [far.other.svc.cluster.local]
  exportTo: %(said)s
  http: [{match: [{headers: {rule-%(step)s: {exact: a}}}], directResponse: {status: 418}}]
---
kind: DestinationRule
metadata: {name: hidden, namespace: other}
spec: {host: far.other.svc.cluster.local, exportTo: %(said)s, subsets: [{name: subset-%(step)s, labels: {a: b}}]}
---
"""
ENTRY = ("entry-%s.example", '"192.0.2.%s"')
SERVICE = ("service-%s.other", '"198.51.100.%s"')
RULED = ("rule-%s", "subset-%s")
"""Of two rules."""
OWN = frozenset({"other"})


@contextlib.asynccontextmanager
async def _proxies(rig: Rig) -> AsyncIterator[Mapping[str, RunningEnvoy]]:
    """A proxy in each of three namespaces."""
    async with rig.capturing("client", "other") as other, rig.capturing("client", "third") as third:
        yield {"default": rig.envoys["client"], "other": other, "third": third}


async def _told(
    rig: Rig, proxies: Mapping[str, RunningEnvoy], text: str, expected: Mapping[str, frozenset[str]]
) -> None:
    """Have these objects; the words, and the namespaces whose proxies have them in a resource of any type."""
    await rig.settle(rig.read(PORTS + "---" + text))
    found: dict[str, frozenset[str]] = {}

    async def so() -> bool:
        dumps = {name: await envoy.admin("/config_dump?include_eds") for name, envoy in proxies.items()}
        found.update({word: frozenset(name for name in dumps if word in dumps[name]) for word in expected})
        return found == expected

    with contextlib.suppress(AssertionError):
        await until(so, "everybody was told", 5)
    wrong = {word: sorted(found[word]) for word in expected if found[word] != expected[word]}
    assert wrong == {}, text


def _words(step: int, *expected: tuple[tuple[str, ...], frozenset[str]]) -> dict[str, frozenset[str]]:
    return {word % step: seen for words, seen in expected for word in words}


@CASES(PORTS, r".*")
async def names_and_addresses_reach_those_who_may_see_them(rig: Rig) -> None:
    """Each way to say exportTo; nobody else is told the host, its address or the rule."""
    rows = {
        "['*']": ("*", ALL),
        "['.']": (".", OWN),
        "[third]": ("third", frozenset({"third"})),
        "['.', third]": (".,third", frozenset({"other", "third"})),
        "[]": ("", ALL),
    }
    async with _proxies(rig) as proxies:
        for step, (said, (annotation, seen)) in enumerate(rows.items(), 60):
            text = (HIDDEN + RULES) % {"step": step, "said": said, "annotation": annotation}
            told = _words(step, ((*ENTRY, *SERVICE, *RULED), seen))
            await _told(rig, proxies, text, told)
        nobody = HIDDEN % {"step": 70, "said": "['~']", "annotation": "~"}
        await _told(rig, proxies, nobody, _words(70, ((*ENTRY, *SERVICE), NOBODY)))


IMPORTS = """
kind: Sidecar
metadata: {name: all, namespace: third}
spec: {egress: [{hosts: %s}]}
---
"""


@CASES(PORTS, r".*")
async def a_sidecar_is_told_what_it_imports(rig: Rig) -> None:
    """Of what others export to it, what its Sidecar names."""
    elsewhere = frozenset({"default", "other"})
    for_all = {"said": "['*']", "annotation": "*"}
    private = {"said": "['.']", "annotation": "."}
    async with _proxies(rig) as proxies:
        text = IMPORTS % "['./*']" + (HIDDEN + RULES) % {"step": 80, **for_all}
        await _told(rig, proxies, text, _words(80, ((*ENTRY, *SERVICE, *RULED), elsewhere)))
        text = IMPORTS % "[other/entry-81.example]" + (HIDDEN + RULES) % {"step": 81, **for_all}
        await _told(rig, proxies, text, _words(81, (ENTRY, ALL), ((*SERVICE, *RULED), elsewhere)))
        text = IMPORTS % "['other/*']" + (HIDDEN + RULES) % {"step": 82, **private}
        await _told(rig, proxies, text, _words(82, ((*ENTRY, *SERVICE, *RULED), OWN)))


RULE = """
kind: DestinationRule
metadata: {name: %s, namespace: %s}
spec: {host: far.other.svc.cluster.local, subsets: [{name: %s-%s, labels: {a: b}}]}
---
"""


@CASES(PORTS, r".*")
async def the_nearest_namespaces_rule_counts(rig: Rig) -> None:
    """The client's own, else the service's, else the root's."""
    homes = {"client": "third", "service": "other", "root": "istio-system"}
    third, elsewhere = frozenset({"third"}), frozenset({"default", "other"})
    rows: tuple[Mapping[str, frozenset[str]], ...] = (
        {"client": third, "service": elsewhere, "root": NOBODY},
        {"service": ALL, "root": NOBODY},
        {"client": third, "root": elsewhere},
        {"root": ALL},
    )
    async with _proxies(rig) as proxies:
        for step, row in enumerate(rows):
            text = "".join(RULE % (whose, homes[whose], whose, step) for whose in row)
            await _told(rig, proxies, text, {f"|{whose}-{step}|": seen for whose, seen in row.items()})
