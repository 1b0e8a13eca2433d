"""A running mesh, as a request's way through it is followed: what istiod has for each connected proxy.

Workloads are those whose proxies are connected; a pod without one is not known here.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from istioctl import dump, reach
from istioctl.dump import Dump
from istioctl.errors import CommandError
from istiod.config.origin import Origin
from istiod.explain import held, listeners, question
from istiod.explain.held import Held, UnreadableDumpError
from istiod.explain.journey import Party, Resolved
from wire import names
from wire import node as nodes
from wire.spiffe import Identity

_GATEWAY_PORTS: Final = {80: 8080, 443: 8443}
_NONE: Final = ("None", "0.0.0.0")  # noqa: S104 (how registryz says that there is no address)


class Running:
    """See istiod.explain.journey.Mesh. ``client`` is a dump of the client's own Envoy, in place of istiod's word."""

    def __init__(self, planes: Sequence[reach.Address], client: Dump | None = None) -> None:
        self._planes = planes
        self._client = client
        self._first: str | None = None
        self._held: dict[str, Held] = {}

    def find(self, said: str, namespace: str) -> Party:
        """See Mesh."""
        kind, _, name = said.rpartition("/")
        exact = self._parties.get(name) if kind in ("", "pod", "pods", "po") else None
        name, _, home = name.partition(".")
        home = home or namespace
        near = {key: one for key, one in self._parties.items() if home in ("", one.namespace)}
        found = exact or next((one for key, one in sorted(near.items()) if self._fits(key, name)), None)
        if found is None:
            raise CommandError(f"no proxy of {said!r} is connected; there are {', '.join(sorted(self._parties)[:12])}")
        if self._first is None:
            self._first = found.name
        return found

    def _fits(self, key: str, name: str) -> bool:
        labels = self._labels.get(key, {})
        known = (labels.get(each) for each in ("app", "istio", "app.kubernetes.io/name", names.LABEL_CANONICAL_NAME))
        pod = key.rpartition(".")[0]
        return pod == name or name in known or pod.startswith(f"{name}-")

    def at(self, address: str) -> Party | None:
        """See Mesh."""
        return next((one for key, one in self._parties.items() if address in self._addresses[key]), None)

    def held(self, party: Party) -> Held:
        """See Mesh."""
        if party.name not in self._held:
            own = self._own(party.name) if party.name == self._first else None
            self._held[party.name] = of_dump(own or self._dump(party.name))
        return self._held[party.name]

    def _own(self, name: str) -> Dump | None:
        if self._client is not None:
            with dump.legible(self._client.name):
                owner = self._client.owner()
            if owner not in ("", name):
                raise CommandError(f"{self._client.name}: a dump of {owner}, not of {name}")
        return self._client

    def _dump(self, name: str) -> Dump:
        reasons = []
        for plane in self._planes:
            try:
                text = plane.ask(f"/debug/config_dump?proxyID={urllib.parse.quote(name)}")
            except CommandError as error:
                reasons.append(str(error))
            else:
                return dump.parse(text, plane.name)
        raise CommandError(f"no istiod has {name}: " + "; ".join(reasons))

    def resolve(self, host: str, port: int, namespace: str) -> Resolved:
        """See Mesh."""
        del port
        plain = host.rstrip(".").lower()
        domains = {name.partition(".svc.")[2] for name in self._services if ".svc." in name} or {
            names.DEFAULT_DNS_DOMAIN
        }
        for domain in sorted(domains):
            for name in (plain, f"{plain}.{namespace}.svc.{domain}", f"{plain}.svc.{domain}"):
                if (address := self._services.get(name)) is not None:
                    note = "" if address else f"{name} has no address: DNS is taken to give {question.OUTSIDE}"
                    return Resolved(address=address or question.OUTSIDE, note=note)
        note = f"istiod knows no {host}: DNS is taken to give {question.OUTSIDE}"
        return Resolved(address=question.OUTSIDE, note=note)

    def listened(self, party: Party, port: int) -> int:
        """See Mesh. Where the gateway does not listen at the port itself, it is taken to be as in Istio's Service."""
        ports = {number for one in self.held(party).listeners for _, number in listeners.addresses(one)}
        return port if port in ports else _GATEWAY_PORTS.get(port, port)

    def cause(self, origin: Origin) -> str:
        """See Mesh."""
        return f"{origin.key} {origin.field}".rstrip()

    @cached_property
    def _clients(self) -> list[Mapping[str, Any]]:
        found, _ = reach.ask_all(self._planes, "/debug/adsz", _listed)
        return found

    @cached_property
    def _services(self) -> Mapping[str, str]:
        """Addresses by host; "" where there is none."""
        found, _ = reach.ask_all(self._planes[:1], "/debug/registryz", _listed)
        hosts = {str(one.get("hostname")): str(one.get("defaultAddress", "")) for one in found}
        return {name: "" if address in _NONE else address.partition("/")[0] for name, address in hosts.items()}

    @cached_property
    def _parties(self) -> Mapping[str, Party]:
        found = (_party(one) for one in self._clients)
        return {one.name: one for one in found if one is not None}

    @cached_property
    def _addresses(self) -> Mapping[str, frozenset[str]]:
        return {_name(one): frozenset(_addresses(one)) for one in self._clients}

    @cached_property
    def _labels(self) -> Mapping[str, Mapping[str, str]]:
        return {_name(one): one.get("labels") or {} for one in self._clients}


def of_dump(found: Dump) -> Held:
    """What a configuration dump holds.

    Raises:
        CommandError: it is none.
    """
    try:
        with dump.legible(found.name):
            return held.of_json(found.listeners(), found.routes(), found.clusters(), found.endpoints())
    except UnreadableDumpError as error:
        raise CommandError(f"{found.name}: not what Envoy has in a dump: {error}") from error


def _listed(name: str, body: bytes) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{name}: not JSON: {error}") from error
    if isinstance(found, dict):
        found = found.get("clients", [])
    return [one for one in found if isinstance(one, dict)]


def _name(one: Mapping[str, Any]) -> str:
    try:
        _, _, name, namespace, _ = nodes.parse_id(str(one.get("connectionId", "")))
    except ValueError:
        return ""
    return f"{name}.{namespace}"


def _addresses(one: Mapping[str, Any]) -> list[str]:
    said = str((one.get("metadata") or {}).get("INSTANCE_IPS") or "")
    own = str(one.get("connectionId", "~")).split("~")[1:2]
    return [*filter(None, said.split(",")), *own]


def _party(one: Mapping[str, Any]) -> Party | None:
    metadata = one.get("metadata") or {}
    try:
        kind, address, name, namespace, _ = nodes.parse_id(str(one.get("connectionId", "")))
    except ValueError:
        return None
    account = str(metadata.get("SERVICE_ACCOUNT") or "default")
    domain = str(metadata.get("MESH_ID") or names.DEFAULT_TRUST_DOMAIN)
    return Party(
        name=f"{name}.{namespace}",
        namespace=namespace,
        address=address,
        identity=str(Identity(domain, namespace, account)),
        proxied=True,
        router=kind is nodes.NodeType.ROUTER,
    )
