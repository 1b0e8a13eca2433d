"""VirtualService: what HTTP requests match, and where they go."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.rig import Rig

CASES = Cases()


def rule(match: str, more: str = "") -> str:
    """Requests for web that match go to shop, others stay."""
    return f"""
kind: VirtualService
spec:
  hosts: [web]
  http:
  - {{match: [{match}], route: [{{destination: {{host: shop}}}}]}}
  - {{route: [{{destination: {{host: web}}}}]}}
{more}"""


MATCHES: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "uri_exact": ("{uri: {exact: /a}}", {"path": "/a"}, {"path": "/a/b"}),
    "uri_prefix": ("{uri: {prefix: /a}}", {"path": "/a/b"}, {"path": "/b"}),
    "uri_regex": ("{uri: {regex: '/a[0-9]+'}}", {"path": "/a12"}, {"path": "/a12/b"}),
    "uri_of_any_case": ("{uri: {exact: /Ab}, ignoreUriCase: true}", {"path": "/aB"}, {"path": "/a"}),
    "method_exact": ("{method: {exact: PUT}}", {"method": "PUT"}, {"method": "POST"}),
    "method_prefix": ("{method: {prefix: PU}}", {"method": "PUT"}, {"method": "POST"}),
    "method_regex": ("{method: {regex: 'PU.|DELETE'}}", {"method": "DELETE"}, {"method": "POST"}),
    "authority_exact": ("{authority: {exact: web.default}}", {"host": "web.default"}, {"host": "web"}),
    "authority_prefix": ("{authority: {prefix: web.d}}", {"host": "web.default"}, {"host": "web"}),
    "authority_regex": ("{authority: {regex: 'web[.]default.*'}}", {"host": "web.default"}, {"host": "web"}),
    "headers_exact": ("{headers: {x-a: {exact: one}}}", {"headers": {"x-a": "one"}}, {"headers": {"x-a": "one1"}}),
    "headers_prefix": ("{headers: {x-a: {prefix: one}}}", {"headers": {"x-a": "one1"}}, {"headers": {"x-a": "on"}}),
    "headers_regex": ("{headers: {x-a: {regex: 'o.e'}}}", {"headers": {"x-a": "one"}}, {"headers": {"x-a": "one1"}}),
    "headers_present": ("{headers: {x-a: {}}}", {"headers": {"x-a": "one"}}, {}),
    "without_headers_exact": (
        "{withoutHeaders: {x-a: {exact: o}}}",
        {"headers": {"x-a": "oo"}},
        {"headers": {"x-a": "o"}},
    ),
    "without_headers_prefix": (
        "{withoutHeaders: {x-a: {prefix: o}}}",
        {"headers": {"x-a": "p"}},
        {"headers": {"x-a": "oo"}},
    ),
    "without_headers_regex": (
        "{withoutHeaders: {x-a: {regex: 'o+'}}}",
        {"headers": {"x-a": "op"}},
        {"headers": {"x-a": "oo"}},
    ),
    "without_headers_present": ("{withoutHeaders: {x-a: {}}}", {}, {"headers": {"x-a": "o"}}),
    "query_exact": ("{queryParams: {q: {exact: a}}}", {"path": "/?q=a"}, {"path": "/?q=ab"}),
    "query_prefix": ("{queryParams: {q: {prefix: a}}}", {"path": "/?q=ab"}, {"path": "/?q=b"}),
    "query_regex": ("{queryParams: {q: {regex: 'a+'}}}", {"path": "/?q=aa"}, {"path": "/?q=ab"}),
    "query_present": ("{queryParams: {q: {}}}", {"path": "/?q=x"}, {"path": "/"}),
    "port": ("{port: $http}", {"host": "web"}, {"port": "http2"}),
}


def _matching(name: str, match: str, hit: dict[str, object], miss: dict[str, object]) -> None:
    async def check(rig: Rig) -> None:
        assert (await rig.ask(**hit)).body == "shop-1"  # type: ignore[arg-type]  # by name
        assert (await rig.ask(**miss)).body.startswith("web")  # type: ignore[arg-type]  # as above

    check.__name__ = f"match_{name}"
    hosts = r"VirtualService spec\.http\[\]\.route.*"
    CASES(rule(match), hosts)(check)


for _name, _said in MATCHES.items():
    _matching(_name, *_said)


SELECTIONS = {
    "source_labels": ("sourceLabels: {app: client}", "sourceLabels: {app: other}"),
    "source_namespace": ("sourceNamespace: default", "sourceNamespace: other"),
    "gateways": ("gateways: [mesh]", "gateways: [gw]"),
    "scheme_exact": ("scheme: {exact: http}", "scheme: {exact: https}"),
    "scheme_prefix": ("scheme: {prefix: ht}", "scheme: {prefix: https}"),
    "scheme_regex": ("scheme: {regex: 'h.tp'}", "scheme: {regex: 'h.tps'}"),
}


def _selecting(name: str, here: str, elsewhere: str) -> None:
    """The first rule is for others, so that without its field it would take the request."""

    async def check(rig: Rig) -> None:
        assert (await rig.ask()).body == "shop-1"

    check.__name__ = f"match_{name}"
    more = f"""
kind: VirtualService
spec:
  hosts: [web]
  gateways: [mesh, gw]
  http:
  - {{match: [{{{elsewhere}, uri: {{prefix: /}}}}], route: [{{destination: {{host: web}}}}]}}
  - {{match: [{{{here}}}], route: [{{destination: {{host: shop}}}}]}}
  - {{route: [{{destination: {{host: web}}}}]}}
"""
    beside = (r"VirtualService spec\.http\[\]\.(route.*|match\[\]\.uri.*)", r"VirtualService spec\.gateways")
    CASES(more, *beside)(check)


for _name, _both in SELECTIONS.items():
    _selecting(_name, *_both)


@CASES(
    """
kind: VirtualService
spec:
  hosts: [web]
  exportTo: [other]
  http: [{route: [{destination: {host: shop}}]}]
""",
    r"VirtualService spec\.(hosts|http.*)",
)
async def a_rule_for_another_namespace_does_nothing_here(rig: Rig) -> None:
    assert (await rig.ask()).body.startswith("web")


@CASES(
    """
kind: VirtualService
spec:
  hosts: [web]
  http:
  - name: first
    match: [{name: mine, uri: {prefix: /}, statPrefix: seen}]
    route: [{destination: {host: shop}}]
""",
    r"VirtualService spec\.http\[\]\.(name|match\[\]\.(name|uri.*))",
)
async def what_matched_is_counted_under_its_prefix(rig: Rig) -> None:
    before = await rig.stat(r"vhost\..*\.route\.seen\.upstream_rq_completed")
    assert (await rig.ask()).body == "shop-1"
    assert await rig.stat(r"vhost\..*\.route\.seen\.upstream_rq_completed") == before + 1


@CASES(
    """
kind: VirtualService
metadata: {name: young, creationTimestamp: "2025-01-01T00:00:00Z"}
spec: {hosts: [web], http: [{directResponse: {status: 418}}]}
---
kind: VirtualService
metadata: {name: zold, creationTimestamp: "2024-01-01T00:00:00Z"}
spec: {hosts: [web], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: shop}}]}]}
""",
    r".*",
)
async def of_two_rules_for_a_host_the_older_serves_alone(rig: Rig) -> None:
    assert (await rig.ask("/a")).body == "shop-1"
    assert (await rig.ask("/b")).status == 404
    assert any("DUPLICATE_HOST spec.hosts" in one for one in rig.findings())
