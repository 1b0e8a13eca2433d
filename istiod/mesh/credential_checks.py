"""Which credentials objects name, and which of them are nowhere (features row E7, diagnostic M0112)."""

from __future__ import annotations

from collections.abc import Iterator

from crds.diagnostic import Code, Diagnostic, error
from istiod.mesh import credentials
from istiod.mesh.credentials import Material
from istiod.mesh.destination_rules import PolicyIndex
from istiod.mesh.gateway_servers import GatewayIndex, Server
from istiod.mesh.model import Model
from istiod.mesh.scope import DownstreamTls


def named(gateways: GatewayIndex, policies: PolicyIndex) -> frozenset[str]:
    """The names of all Secrets that Gateways and DestinationRules look for, as they say them."""
    found: set[str] = set()
    for context in (server.context for one in gateways.gateways for server in one.servers):
        if context is not None:
            found.update(credentials.certificates(context), credentials.roots(context))
    for rule in policies.all():
        found.update(policy.tls.credential_name for _, policy in rule.policies if policy.tls)
    return frozenset(found - {""})


def findings(model: Model, gateways: GatewayIndex) -> Iterator[Diagnostic]:
    """Secrets that cannot be used, and servers of Gateways that have none.

    A Gateway's pods are in the namespaces of the Services that select no more than the Gateway; where there are none,
    any namespace will do.
    """
    yield from model.credentials.findings()
    for gateway in gateways.gateways:
        homes = {s.namespace for s in model.registry.services if gateway.selector and gateway.selector <= s.selector}
        homes = homes or {namespace for namespace, _ in model.credentials.materials}
        if model.settings.features.scope_gateways:
            homes = {gateway.key.namespace}
        for server in gateway.servers:
            context = server.context
            if context is None or all(map(credentials.is_external, _wanted(context))):
                continue
            if not any(model.credentials.resolve(home, context) is not None for home in homes):
                yield _missing(server, context, sorted(homes))
            else:
                yield from _wrong(server, [each for home in homes for each in model.credentials.wrong(home, context)])


def _wanted(context: DownstreamTls) -> tuple[str, ...]:
    return (*credentials.certificates(context), *credentials.roots(context))


def _missing(server: Server, context: DownstreamTls, homes: list[str]) -> Diagnostic:
    names = " and ".join(dict.fromkeys(credentials.bare(name) for name in _wanted(context)))
    where = " or ".join(homes) or "any namespace"
    message = f"no Secret that can be used has {names} in {where}: the server on port {server.port} is left out"
    return error(Code.UNKNOWN_CREDENTIAL, server.gateway, "spec.servers", message)


def _wrong(server: Server, found: list[Material]) -> Iterator[Diagnostic]:
    """The server listens, but not with what its Secrets say now."""
    for one in dict.fromkeys((each.item.key, each.state) for each in found):
        message = f"Secret {one[0].name} in {one[0].namespace}, for port {server.port}: {one[1]}"
        yield error(Code.UNKNOWN_CREDENTIAL, server.gateway, "spec.servers", message)
