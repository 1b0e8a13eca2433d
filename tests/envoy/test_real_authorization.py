"""What real Envoys let in under random policies, against the oracle; and what they say of it (SEC48, SEC50)."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from istiod.mesh.authorization import Authorization
from istiod.mesh.recall import Recall
from istiod.mesh.settings import MeshSettings
from tests.envoy import guarded, made, policy_oracle, random_policies
from tests.envoy.guarded import Certificates, Client, Guard
from tests.envoy.policy_oracle import Request
from tests.mesh import fleet

DOMAINS = ["cluster.local", "old.td"]
MESH = fleet.mesh_config("trustDomainAliases: [old.td]")


def said(*policies: object) -> Authorization | None:
    """What the product makes of policies for the workload."""
    index = fleet.Mesh(MESH, *map(yaml.safe_dump, policies)).context.model.authorizations
    return index.choose(random_policies.NAMESPACE, frozenset(random_policies.LABELS.items()), Recall())


async def compared(folder: Path, seed: int, sets: int) -> tuple[list[object], int, int]:
    """Decisions that differ, and how many of each kind there were."""
    rng = random.Random(seed)
    ports = guarded.ports(2 * sets)
    policies = {port: random_policies.policies(rng, port) for port in ports[:sets]}
    of_tcp = dict(zip(ports[:sets], ports[sets:], strict=True))
    policies |= {
        tcp: yaml.safe_load(yaml.safe_dump(policies[port]).replace(str(port), str(tcp))) for port, tcp in of_tcp.items()
    }
    guards = [Guard(port=port, said=said(*policies[port]), tcp=port in of_tcp.values()) for port in ports]
    certificates, wrong, counts = Certificates(folder), list[object](), [0, 0]
    async with guarded.running(guards, certificates, made.QUIET):
        for port, tcp in of_tcp.items():
            client = Client(certificates)
            for number in range(20):
                on, opaque = (tcp, True) if number < 5 else (port, False)
                request = random_policies.request(rng, on, tcp=opaque)
                wanted = policy_oracle.lets_in(
                    policies[on], random_policies.NAMESPACE, random_policies.LABELS, request, DOMAINS
                )
                status = await client.ask(request)
                counts[wanted] += 1
                if status != (200 if wanted else 403):
                    wrong.append((status, request, policies[on]))
            await client.close()
    return wrong, counts[False], counts[True]


@pytest.mark.envoy
@pytest.mark.timeout(120)
async def test_envoy_decides_as_the_oracle_says(tmp_path: Path) -> None:
    wrong, refused, let_in = await compared(tmp_path, 1, 100)
    assert wrong == []
    assert min(refused, let_in) > 400  # else the policies would try nothing


@pytest.mark.envoy
@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
async def test_envoy_decides_as_the_oracle_says_two_thousand_times(tmp_path: Path, seed: int) -> None:
    wrong, _, _ = await compared(tmp_path, seed, 100)
    assert wrong == []


def policy(name: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "foo"},
        "spec": spec,
    }


WAYS = ("GET", "GET", "PUT")
GET = {"to": [{"operation": {"methods": ["GET"]}}]}
ON_X = {"to": [{"operation": {"paths": ["/x"]}}]}


async def asked(folder: Path, requests: list[Request], settings: MeshSettings, *policies: object) -> list[int]:
    """The answers to requests, of which each gets the port."""
    (port,) = guarded.ports(1)
    certificates = Certificates(folder)
    guard = Guard(port=port, said=said(*policies))
    async with guarded.running([guard], certificates, settings):
        client = Client(certificates)
        answers = [await client.ask(replace(one, port=port)) for one in requests]
        await client.close()
    return answers


@pytest.mark.envoy
async def test_the_access_log_names_policy_and_rule(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    settings = MeshSettings(access_log_file=str(log), enable_tracing=False)
    deny = policy("no-x", action="DENY", rules=[{"from": [{"source": {"namespaces": ["none"]}}]}, ON_X])
    requests = [
        Request(host="a", path=path, method=method) for path, method in (("/x", "GET"), ("/", "GET"), ("/", "PUT"))
    ]
    assert await asked(tmp_path, requests, settings, deny, policy("get", rules=[GET])) == [403, 200, 403]
    refused, let_in, unmatched = log.read_text().splitlines()
    assert "rbac_access_denied_matched_policy[ns[foo]-policy[no-x]-rule[1]]" in refused
    assert "direct_response" in let_in
    assert "rbac_access_denied_matched_policy[none]" in unmatched


@pytest.mark.envoy
async def test_a_trial_is_counted_and_refuses_nothing(tmp_path: Path) -> None:
    trial = policy("try", action="DENY", rules=[ON_X])
    trial["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    (port,) = guarded.ports(1)
    certificates = Certificates(tmp_path)
    async with guarded.running([Guard(port=port, said=said(trial))], certificates, made.QUIET):
        client = Client(certificates)
        answers = [await client.ask(Request(port=port, host="a", path=path)) for path in ("/x", "/x", "/y")]
        await client.close()
        counts = await guarded.statistics(certificates, "istio_dry_run_deny_.shadow_")
    assert answers == [200, 200, 200]
    assert {name.rpartition("_")[2]: count for name, count in counts.items()} == {"denied": 2, "allowed": 1}


NASTY = ("*[", "a(b*", "\\", "**", "*.*", "a{2,1}", "é", "[x]", "x" * 300, "*" + "y" * 8191, " ", "%2e", "a\tb")


@pytest.mark.envoy
@pytest.mark.parametrize("tcp", [False, True])
async def test_no_value_of_a_policy_makes_envoy_refuse_it(tmp_path: Path, *, tcp: bool) -> None:
    """A listener that Envoy refused would go on without the policy."""
    fields = ("principals", "notNamespaces", "trustDomains", "requestPrincipals")
    keys = ("request.headers[x|~a]", "request.auth.claims[a b][*]", "request.experimental.inline.headers[:path]")
    keys += ("source.principal", "connection.sni", "experimental.envoy.filters.a[b c]", "request.auth.audiences")
    rule = {
        "from": [{"source": {name: list(NASTY) for name in fields}}, {"source": {"serviceAccounts": ["a(", "[/b"]}}],
        "to": [
            {"operation": {name: list(NASTY) for name in ("hosts", "methods", "notPaths")}},
            {
                "operation": {
                    "paths": ["/{*}", "/{**}", "/a/{*}/b/{**}", "/~!$&'()+,;:@=%20/{*}/"],
                    "ports": ["0", "65535"],
                }
            },
        ],
        "when": [{"key": key, "values": list(NASTY), "notValues": list(NASTY)} for key in keys],
    }
    (port,) = guarded.ports(1)
    found = said(policy("allow", rules=[rule]), policy("deny", action="DENY", rules=[rule]))
    certificates = Certificates(tmp_path)
    async with guarded.running([Guard(port=port, said=found, tcp=tcp)], certificates, made.QUIET):
        client = Client(certificates)
        assert await client.ask(Request(port=port, host="a", tcp=tcp)) == 403
        await client.close()
