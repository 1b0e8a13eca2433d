"""What AuthorizationPolicies mean, in a hundred lines that share nothing with the product (row SEC50).

Written after Istio's reference of AuthorizationPolicy and its conditions: policies are plain YAML trees, a request is a
few texts. Tokens are none here, and providers of CUSTOM are not there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request, or with ``tcp`` a connection. ``identity`` is without scheme, "" where there is no certificate."""

    identity: str = ""
    source: str = "127.0.0.1"
    remote: str = "127.0.0.1"
    port: int = 0
    sni: str = ""
    host: str = ""
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    """Lines: a header may have several, and each is a value of its own."""
    tcp: bool = False


def lets_in(policies: list[Tree], namespace: str, labels: dict[str, str], request: Request, aliases: list[str]) -> bool:
    by_action: dict[str, list[Tree]] = {}
    for one in policies:
        spec, meta = one["spec"], one["metadata"]
        wanted = spec.get("selector", {}).get("matchLabels", {})
        tried = meta.get("annotations", {}).get("istio.io/dry-run") == "true"
        if meta["namespace"] in (namespace, "istio-system") and wanted.items() <= labels.items() and not tried:
            by_action.setdefault(spec.get("action", "ALLOW"), []).append(one)

    def any_rule(actions: Iterable[str], *, refuses: bool) -> bool:
        found = [one for action in actions for one in by_action.get(action, [])]
        return any(
            _rule(rule, one["metadata"]["namespace"], request, aliases, refuses)
            for one in found
            for rule in one["spec"].get("rules", [])
        )

    if any_rule(("CUSTOM", "DENY"), refuses=True):
        return False
    return "ALLOW" not in by_action or any_rule(("ALLOW",), refuses=False)


OF_HTTP = ("requestPrincipals", "hosts", "methods", "paths", "request.")


def _rule(rule: Tree, home: str, request: Request, aliases: list[str], refuses: bool) -> bool:  # noqa: FBT001 (short)
    def holds(name: str, values: list[str], others: list[str]) -> bool:
        if request.tcp and name.startswith(OF_HTTP):
            return refuses  # TCP has it not: it lets nobody in, and keeps nobody from being refused
        known = _attribute(name, home, request, aliases)
        return (not values or any(map(known, values))) and not any(map(known, others))

    def part(said: Tree) -> bool:
        names = {one[3].lower() + one[4:] if one.startswith("not") else one for one in said}
        return all(holds(one, said.get(one, []), said.get(f"not{one[0].upper()}{one[1:]}", [])) for one in names)

    callers = [part(one["source"]) for one in rule.get("from", [])] or [True]
    targets = [part(one["operation"]) for one in rule.get("to", [])] or [True]
    rest = [holds(one["key"], one.get("values", []), one.get("notValues", [])) for one in rule.get("when", [])]
    if request.tcp and not refuses and _speaks_of_http(rule):
        return False
    return any(callers) and any(targets) and all(rest)


def _speaks_of_http(rule: Tree) -> bool:
    fields = [name for one in rule.get("from", []) for name in one["source"]]
    fields += [name for one in rule.get("to", []) for name in one["operation"]]
    fields += [one["key"] for one in rule.get("when", [])]
    return any(name.startswith(OF_HTTP) or name.removeprefix("not").lower().startswith(_LOWER) for name in fields)


_LOWER = tuple(one.lower() for one in OF_HTTP)


def _attribute(name: str, home: str, request: Request, aliases: list[str]) -> Callable[[str], bool]:
    parts = request.identity.split("/")
    space, account, domain = (parts[2], parts[4], parts[0]) if request.identity else ("", "", "")
    lines = [value for header, value in request.headers if header == name[16:-1]]
    accounts = [f"{space}/{account}"] * bool(account) + [account] * (space == home)
    plain = {"namespaces": space, "source.namespace": space, "connection.sni": request.sni, "methods": request.method}
    known: dict[str, Callable[[str], bool]] = {
        "ipBlocks": lambda block: _inside(request.source, block),
        "source.ip": lambda block: _inside(request.source, block),
        "remoteIpBlocks": lambda block: _inside(request.remote, block),
        "remote.ip": lambda block: _inside(request.remote, block),
        "ports": lambda port: int(port) == request.port,
        "destination.port": lambda port: int(port) == request.port,
        "serviceAccounts": lambda said: said in accounts,
        "principals": lambda said: any(_like(one, request.identity) for one in _everywhere(said, aliases)),
        "source.principal": lambda said: any(_like(one, request.identity) for one in _everywhere(said, aliases)),
        "trustDomains": lambda said: any(_like(one, domain) for one in (aliases if said in aliases else [said])),
        "hosts": lambda said: _like(said.lower(), request.host.lower()),
        "paths": lambda said: _path(said, request.path.partition("?")[0]),
        "request.headers": lambda said: any(said == "*" or _like(said, one) for one in lines),
    }
    return known.get(name.partition("[")[0], lambda said: _like(said, plain.get(name, "")))  # a token would say: ""


def _inside(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block)


def _everywhere(principal: str, aliases: list[str]) -> list[str]:
    domain, slash, rest = principal.partition("/")
    return [one + slash + rest for one in aliases] if domain in aliases and principal.count("/") == 4 else [principal]


def _like(pattern: str, text: str) -> bool:
    if pattern == "*":
        return text != ""
    if pattern.startswith("*"):
        return text.endswith(pattern[1:])
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _path(pattern: str, path: str) -> bool:
    return _segments(pattern, path) if "{" in pattern else _like(pattern, path)


def _segments(pattern: str, path: str) -> bool:
    """``{*}`` is one segment that is not empty, ``{**}`` anything."""
    before, brace, after = pattern.partition("{")
    if not brace:
        return pattern == path
    if not path.startswith(before):
        return False
    rest, after = path[len(before) :], after.partition("}")
    ends = range(len(rest) + 1)
    if after[0] == "*":
        ends = range(1, len(rest.partition("/")[0]) + 1)
    return any(_segments(after[2], rest[end:]) for end in ends)
