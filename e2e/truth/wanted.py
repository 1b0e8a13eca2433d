"""What the objects in the API server say that a proxy must have, as Views.

Knows Services, EndpointSlices, DestinationRules with subsets, VirtualServices and Gateways as the stories use them; an
object that says more (Sidecars, exportTo, delegates, ...) makes it raise: it never guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.truth.view import Address, Rule, View

Object = Mapping[str, Any]
_UNKNOWN = ("Sidecar", "ServiceEntry", "WorkloadEntry", "EnvoyFilter")
_DOMAIN = "svc.cluster.local"
_HTTP = ("http", "http2", "grpc")


class UnknownError(Exception):
    """An object says something that this check does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Objects of the API server by kind."""

    objects: Mapping[str, Sequence[Object]]

    def __getitem__(self, kind: str) -> Sequence[Object]:
        """All objects of a kind."""
        return self.objects.get(kind, ())


def world(objects: Iterable[Object]) -> World:
    """Group objects by kind.

    Raises:
        UnknownError: there is one of a kind that changes what proxies must have in ways not known here.
    """
    found: dict[str, list[Object]] = {}
    for each in objects:
        if each["kind"] in _UNKNOWN:
            raise UnknownError(f"{each['kind']} {each['metadata']['name']}")
        found.setdefault(each["kind"], []).append(each)
    return World(objects=found)


def sidecar(there: World) -> View:
    """What every sidecar must have: each Service's ports, whole and by subset, and the routes of its HTTP ports."""
    clusters = {name: found for service in there["Service"] for name, found in _clusters(there, service)}
    routes = {key: rules for service in there["Service"] for key, rules in _routes(there, service)}
    return View(clusters=clusters, routes=routes)


def router(there: World, pod: Object) -> View:
    """What a gateway's pod must have: the routes of the Gateways that select it, and the clusters they name."""
    routes: dict[tuple[str, str], tuple[Rule, ...]] = {}
    for gateway in there["Gateway"]:
        if gateway["spec"]["selector"].items() <= pod["metadata"]["labels"].items():
            routes |= _gateway_routes(there, gateway)
    named = {name for rules in routes.values() for rule in rules for name, _ in rule.to}
    everything = sidecar(there).clusters
    return View(clusters={name: everything[name] for name in named}, routes=routes)


def host(service: Object) -> str:
    """A Service's full name."""
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.{_DOMAIN}"


def full(name: str, namespace: str) -> str:
    """The full name that a short one means in objects of a namespace."""
    if name == "*" or "." in name:
        return name
    return f"{name}.{namespace}.{_DOMAIN}"


def _ports(service: Object) -> list[Object]:
    return [port for port in service["spec"].get("ports", []) if port.get("protocol", "TCP") == "TCP"]


def _clusters(there: World, service: Object) -> Iterator[tuple[str, frozenset[Address]]]:
    if service["spec"].get("type") == "ExternalName":
        raise UnknownError(f"ExternalName {host(service)}")
    for port in _ports(service):
        ready = list(_ready(there, service, port))
        everyone = frozenset(address for address, _ in ready)
        headless = service["spec"].get("clusterIP") == "None"  # its addresses are those that are asked for
        yield f"outbound|{port['port']}||{host(service)}", frozenset() if headless else everyone
        for subset in _subsets(there, service):
            labels = subset.get("labels", {}).items()
            chosen = frozenset(address for address, have in ready if labels <= have.items())
            name = f"outbound|{port['port']}|{subset['name']}|{host(service)}"
            yield name, frozenset() if headless else chosen


def _subsets(there: World, service: Object) -> Iterator[Object]:
    for rule in there["DestinationRule"]:
        if full(rule["spec"]["host"], rule["metadata"]["namespace"]) == host(service):
            if rule["metadata"]["namespace"] != service["metadata"]["namespace"] or "exportTo" in rule["spec"]:
                raise UnknownError(f"DestinationRule {rule['metadata']['name']}")
            yield from rule["spec"].get("subsets", [])


def _ready(there: World, service: Object, port: Object) -> Iterator[tuple[Address, Mapping[str, str]]]:
    """Addresses of a Service's port that are ready, with the labels of their pods."""
    namespace = service["metadata"]["namespace"]
    labels = {
        pod["metadata"]["name"]: pod["metadata"].get("labels", {})
        for pod in there["Pod"]
        if pod["metadata"]["namespace"] == namespace
    }
    for piece in there["EndpointSlice"]:
        meta = piece["metadata"]
        named = meta.get("labels", {}).get("kubernetes.io/service-name")
        if meta["namespace"] != namespace or named != service["metadata"]["name"]:
            continue
        numbers = [each["port"] for each in piece.get("ports") or [] if each.get("name", "") == port.get("name", "")]
        for endpoint in piece.get("endpoints") or []:
            if endpoint.get("conditions", {}).get("ready", True):
                pod = endpoint.get("targetRef", {}).get("name", "")
                yield from (((ip, number), labels.get(pod, {})) for ip in endpoint["addresses"] for number in numbers)


def _is_http(port: Object) -> bool:
    named = str(port.get("appProtocol") or port.get("name", "")).partition("-")[0]
    return named in _HTTP


def _routes(there: World, service: Object) -> Iterator[tuple[tuple[str, str], tuple[Rule, ...]]]:
    for port in _ports(service):
        if _is_http(port):
            whole = (f"outbound|{port['port']}||{host(service)}", 100)
            rules = [Rule(match="prefix /", to=(whole,))]
            for virtual in _virtual_services(there, "mesh"):
                names = [full(name, virtual["metadata"]["namespace"]) for name in virtual["spec"]["hosts"]]
                if host(service) in names:
                    rules = list(_rules(there, virtual, port["port"]))
            yield (str(port["port"]), host(service)), tuple(rules)


def _virtual_services(there: World, gateway: str) -> Iterator[Object]:
    for each in there["VirtualService"]:
        if {"exportTo", "tcp", "tls"} & each["spec"].keys():
            raise UnknownError(f"VirtualService {each['metadata']['name']}")
        names = each["spec"].get("gateways", ["mesh"])
        namespace = each["metadata"]["namespace"]
        if gateway in {name if name == "mesh" or "/" in name else f"{namespace}/{name}" for name in names}:
            yield each


def _gateway_routes(there: World, gateway: Object) -> Iterator[tuple[tuple[str, str], tuple[Rule, ...]]]:
    key = f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}"
    for server in gateway["spec"]["servers"]:
        if server["port"]["protocol"] != "HTTP" or server["hosts"] != ["*"]:
            raise UnknownError(f"Gateway {key}")
        number = server["port"]["number"]
        for virtual in _virtual_services(there, key):
            for name in virtual["spec"]["hosts"]:
                rules = tuple(_rules(there, virtual, number))
                yield (f"http.{number}", full(name, virtual["metadata"]["namespace"])), rules


def _rules(there: World, virtual: Object, port: int) -> Iterator[Rule]:
    for http in virtual["spec"].get("http", []):
        if "delegate" in http:
            raise UnknownError(f"delegate in VirtualService {virtual['metadata']['name']}")
        to = _destinations(there, virtual, http, port)
        for match in http.get("match") or [{}]:
            yield Rule(match=_match(match), to=to)


def _destinations(there: World, virtual: Object, http: Object, port: int) -> tuple[tuple[str, int], ...]:
    for kind, name in (("redirect", "redirect"), ("directResponse", "direct_response")):
        if kind in http:
            return ((name, 0),)
    found = []
    for each in http["route"]:
        wanted = each["destination"]
        target = full(wanted["host"], virtual["metadata"]["namespace"])
        number = wanted.get("port", {}).get("number") or _only_port(there, target, port)
        name = f"outbound|{number}|{wanted.get('subset', '')}|{target}"
        found.append((name, each.get("weight", 0) if len(http["route"]) > 1 else 100))
    return tuple(each for each in found if each[1])


def _only_port(there: World, target: str, port: int) -> int:
    """The port of a destination that names none: its Service's only one, else the listener's."""
    for service in there["Service"]:
        if host(service) == target and len(service["spec"]["ports"]) == 1:
            return int(service["spec"]["ports"][0]["port"])
    return port


def _match(match: Object) -> str:
    if match.keys() - {"uri", "headers", "name"}:
        raise UnknownError(f"match {sorted(match)}")
    words = [_uri(match.get("uri", {"prefix": "/"}))]
    for name, value in sorted(match.get("headers", {}).items()):
        kind, text = next(iter(value.items()))
        words.append(f"{name} {'safe_regex' if kind == 'regex' else kind} {text}")
    return " ".join(words)


def _uri(uri: Object) -> str:
    kind, text = next(iter(uri.items()))
    return f"{ {'exact': 'path', 'prefix': 'prefix', 'regex': 'regex'}[kind] } {text}"
