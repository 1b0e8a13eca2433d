"""Recordings of a real istiod, compared by what happens to calls: groups scenarios, simulation and xds.

xdssim is the judge (its README says what counts). A simulation case asks for Istio's own expectation of each call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from google.protobuf import json_format

from conformance import difference, made_up
from conformance.difference import Difference
from conformance.instruments import tool
from conformance.replay import Mesh
from istiod import features

_UNNAMED: Final = {"pilot.TraceSampling": "PILOT_TRACE_SAMPLING"}
"""Variables whose name the recorder did not see."""


def scenario(path: Path) -> Iterator[Difference]:
    """Every recorded proxy of a scenario; ``path`` is its proxies.json."""
    folder = path.parent
    held = {file.name: file.read_bytes() for file in (folder / "input").iterdir()}
    secrets = made_up.secrets("\n---\n".join(text.decode() for text in held.values()), "")
    world = Mesh({**held, "secrets.yaml": secrets.encode()})
    for name, proxy in json.loads(path.read_text())["proxies"].items():
        reference = tool("xdssim").Snapshot.load(folder / proxy["dump"])
        given = world.snapshot(proxy["node_id"], proxy["metadata"])
        yield from calls(name, reference, given)


def calls(name: str, reference: Any, given: Any) -> Iterator[Difference]:
    """The calls that both snapshots suggest, where their outcome differs."""
    generate = tool("xdssim.calls").generate
    every = list({str(vars(call)): call for snap in (reference, given) for call in generate(snap)}.values())
    for found in tool("xdssim.compare").compare(reference, given, every)["differences"]:
        where = f"{name} {found['call'].get('name', '')}".strip()
        for field, (wanted, ours) in found["fields"].items():
            yield from difference.leaves(where, field, wanted, ours)


def is_complete(case: Mapping[str, Any]) -> bool:
    """Whether the YAML of an xds case is its whole input: no services built in Go, one cluster."""
    return not case.get("go_services") and len(case["kubernetes_yaml_by_cluster"]) <= 1


def is_approximated(case: Mapping[str, Any]) -> bool:
    """Whether the services of an xds case were built in Go, and the YAML is the recorder's rendering of them."""
    return bool(case.get("go_services")) and len(case["kubernetes_yaml_by_cluster"]) <= 1


def simulation(path: Path) -> Iterator[Difference]:
    """Istio's expectations of one traffic simulation."""
    case = json.loads(path.read_text())
    yield from _flags(case)
    given = Mesh(contents(case), _environment(case)).snapshot(*node(case))
    for what, holds, why in tool("score").beyond_calls(case, _dump(given)):
        if not holds:
            yield difference.of(what, "expectation", "as expected", why)
    for call in case["calls"] or ():
        yield from _expected(call, given)


def recording(path: Path) -> Iterator[Difference]:
    """One dump of Istio's unit tests. Without listeners there is no call: then its clusters are compared by name.

    What the test did not generate at all (listeners, routes or endpoints) is taken from neither side.
    """
    case = json.loads(path.read_text())
    yield from _flags(case)
    reference = tool("xdssim").Snapshot.load(path.with_name(f"{path.stem}.xds.json"))
    given = Mesh(contents(case), _environment(case)).snapshot(*node(case))
    yield from _names(path, case)
    for kind in ("listeners", "routes", "endpoints"):
        if not getattr(reference, kind):
            getattr(given, kind).clear()
    yield from calls("", reference, given) if reference.listeners else _clusters(reference, given)


def _names(path: Path, case: Mapping[str, Any]) -> Iterator[Difference]:
    """The hosts that a proxy's agent can answer DNS queries for, where the recording has any.

    Recorded proxies do not capture DNS, so none of their hosts has an allocated address.
    """
    wanted = json.loads(path.with_name(f"{path.stem}.xds.json").read_text()).get("name_table") or {}
    if recorded := wanted.get("table"):
        world = Mesh(contents(case), {**_environment(case), "PILOT_ENABLE_IP_AUTOALLOCATE": "false"})
        given = world.names(*node(case))
        for host in sorted(recorded.keys() | given.keys()):
            yield from difference.leaves(host, "name", recorded.get(host), given.get(host))


def _clusters(reference: Any, given: Any) -> Iterator[Difference]:
    describe, call = tool("xdssim.cluster").describe, tool("xdssim").Call()
    for name in sorted(reference.clusters.keys() | given.clusters.keys()):
        yield from difference.leaves(name, "cluster", describe(reference, name, call), describe(given, name, call))


def _flags(case: Mapping[str, Any]) -> Iterator[Difference]:
    """Feature variables that ours does not read: a case that sets one fails."""
    for name, flag in _features(case).items():
        if name not in features.NAMES:
            yield difference.of("", f"feature {name}", flag["value"], None)


def _environment(case: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(flag["value"]) for name, flag in _features(case).items()}


def _features(case: Mapping[str, Any]) -> dict[str, Any]:
    said = (case.get("features") or {}).items()
    return {flag.get("env") or _UNNAMED.get(name, name): flag for name, flag in said}


def contents(case: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that a simulation or xds case is for ``--configDir``, as tools/score.py writes them, and Secrets."""
    kubernetes = case["kubernetes_yaml_by_cluster"].get(case["default_cluster"] or "") or ""
    services = case.get("go_services_as_service_entries_yaml") or ""
    texts = {"kubernetes.yaml": kubernetes, "istio.yaml": "\n---\n".join((case["istio_config_yaml"] or "", services))}
    if changed := case.get("mesh_config_changed_fields"):
        settings = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": yaml.safe_dump(changed)},
        }
        texts["mesh.yaml"] = yaml.safe_dump(settings)
    texts["secrets.yaml"] = made_up.secrets("\n---\n".join(texts.values()), case["proxy"]["config_namespace"])
    return {name: text.encode() for name, text in texts.items()}


def node(case: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Node id and metadata of a case's proxy: of several addresses the id has the first, metadata have all."""
    proxy = case["proxy"]
    node_id = f"{proxy['type']}~{proxy['ip_addresses'][0]}~{proxy['id']}~{proxy['dns_domain']}"
    addresses = ",".join(proxy["ip_addresses"])
    return node_id, {"INSTANCE_IPS": addresses, **(proxy["metadata"] or {})}


def _dump(given: Any) -> dict[str, list[dict[str, Any]]]:
    return {
        kind: [json_format.MessageToDict(each, preserving_proto_field_name=True) for each in found.values()]
        for kind, found in (("routes", given.routes), ("clusters", given.clusters))
    }


def _expected(call: Mapping[str, Any], given: Any) -> Iterator[Difference]:
    cases, short = tool("xdssim.cases"), tool("score").short
    bare = tool("xdssim").Snapshot(given.listeners, given.routes, {}, given.endpoints)
    got, want = cases.ours(bare, cases.call_of(call["call_with_defaults"])), call["expect"]
    error = want.get("error")
    yield from difference.leaves(call["name"], "error", cases.ERRORS.get(error, error) if error else None, got["error"])
    for field in cases.FIELDS:
        if want.get(field) and short(want[field]) != short(got[field]):
            yield difference.of(call["name"], field, want[field], got[field])
