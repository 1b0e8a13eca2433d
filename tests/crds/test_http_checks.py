"""Each row: a spec in YAML, and the fields that are found fault with; "?" marks a warning, "~" one for the webhook."""

import pytest

from tests.crds import tables

TO = "route: [{destination: {host: b}}]"
HTTP = [
    (TO, []),
    ("route: [{destination: {host: b}}, {destination: {host: c}}]", ["route"]),
    ("route: [{destination: {host: b}, weight: 0}, {destination: {host: c}, weight: 1}]", []),
    ("route: [{destination: {host: b}, weight: -1}]", ["route[0].weight"]),
    ("route: [{}]", ["route[0].destination"]),
    ("route: [{destination: {}}]", ["route[0].destination.host"]),
    ("route: [{destination: {host: '*'}}]", ["route[0].destination.host"]),
    (
        "route: [{destination: {host: '*-a.b'}}, {destination: {host: 10.0.0.1}, weight: 1}]",
        ["route[1].destination.host"],
    ),
    (
        "route: [{destination: {host: b, subset: 'a b', port: {number: 0}}}]",
        ["route[0].destination.subset", "route[0].destination.port.number"],
    ),
    ("name: x", [""]),
    ("redirect: {uri: /a}", []),
    (f"{TO}, redirect: {{uri: /a}}", ["redirect"]),
    (f"{TO}, directResponse: {{status: 200}}, rewrite: {{uri: /a}}", ["directResponse", "rewrite"]),
    ("redirect: {uri: /a}, fault: {abort: {httpStatus: 500}}", ["fault"]),
    ("redirect: {uri: /a, prefixRewrite: /b}", ["redirect.prefixRewrite"]),
    ("redirect: {prefixRewrite: /b}, match: [{uri: {prefix: /a}}]", []),
    ("redirect: {prefixRewrite: /b}, match: [{uri: {exact: /a}}, {port: 80}]", ["redirect.prefixRewrite"]),
    ("redirect: {redirectCode: 299, scheme: ftp}", ["redirect.redirectCode", "redirect.scheme"]),
    ("redirect: {redirectCode: 301}", ["~redirect"]),
    ("redirect: {port: 70000}", ["redirect.port"]),
    (
        f'{TO}, match: [{{withoutHeaders: {{"a\\nb": {{exact: a}}}}}}]',
        ["match[0].withoutHeaders", "~match[0].withoutHeaders"],
    ),
    (f"{TO}, match: [{{queryParams: {{? {'a' * 1025} : {{exact: a}}}}}}]", ["match[0].queryParams"]),
    ("redirect: {uri: /a, redirectCode: 305}", ["redirect.redirectCode"]),
    ('redirect: {uri: "/a\\nb", authority: "a\\rb"}', ["redirect.uri", "redirect.authority"]),
    (f'{TO}, rewrite: {{authority: "a\\0b"}}', ["rewrite.authority"]),
    (f'{TO}, headers: {{request: {{remove: ["a\\nb"]}}}}', ["headers.request.remove"]),
    (f'{TO}, headers: {{response: {{set: {{a: "a\\nb"}}}}}}', ["headers.response.set.a"]),
    (f"{TO}, headers: {{response: {{set: {{a: '%NONSENSE%'}}}}}}", ["headers.response.set.a"]),
    (f"{TO}, timeout: 4000000000s", ["timeout"]),
    ("redirect: {port: 80, derivePort: FROM_REQUEST_PORT}", ["redirect.derivePort"]),
    ("delegate: {name: x}", []),
    ("directResponse: {status: 600, body: {string: a}}", ["directResponse.status"]),
    ("directResponse: {status: 200, body: {bytes: YQ==}}", []),
    ("directResponse: {status: 200, body: {bytes: YQ==, string: a}}", ["directResponse.body.bytes"]),
    ("directResponse: {status: 200, body: {bytes: '!'}}", ["directResponse.body.bytes"]),
    ("directResponse: {status: 200, body: {bytes: 'é'}}", ["directResponse.body.bytes"]),
    (f"directResponse: {{status: 200, body: {{string: {'a' * 200_000}}}}}", ["?directResponse.body"]),
    (f"directResponse: {{status: 200, body: {{string: {'a' * 2_000_000}}}}}", ["directResponse.body"]),
    (f"{TO}, match: [{{uri: {{prefix: ''}}, headers: {{a: {{exact: ''}}}}}}]", []),
    (
        f"{TO}, match: [{{uri: {{regex: ''}}, method: {{prefix: ''}}}}]",
        ["match[0].uri.regex", "match[0].method.prefix"],
    ),
    (f"{TO}, match: [{{scheme: {{exact: a, prefix: b}}}}]", ["match[0].scheme"]),
    (f"{TO}, match: [{{queryParams: {{x.y: {{regex: '('}}}}}}]", ['match[0].queryParams["x.y"].regex']),
    (f"{TO}, match: [{{headers: {{'x.y': {{}}, ? {'a' * 1025} : {{}}}}}}]", ["match[0].headers"]),
    (
        f"{TO}, match: [{{sourceNamespace: 'a.b', sourceLabels: {{a: '!'}}, gateways: [a/b/c]}}]",
        ["match[0].sourceNamespace", "match[0].sourceLabels.a", "match[0].gateways[0]"],
    ),
    (f"{TO}, match: [{{queryParams: {{q: {{regex: '{'a' * 1025}'}}}}}}]", ["match[0].queryParams.q.regex"]),
    (
        f"{TO}, match: [{{queryParams: {{q: {{regex: '((a{{100}}){{100}}){{100}}'}}}}}}]",
        ["match[0].queryParams.q.regex"],
    ),
    (
        f"{TO}, match: [{{withoutHeaders: {{h: {{regex: '*'}}, '': {{}}}}, port: 70000}}]",
        ["match[0].withoutHeaders", "match[0].port"],
    ),
    (f"{TO}, match: [{{headers: {{'@request.auth.claims.a': {{exact: b}}}}}}]", ["match[0].headers"]),
    (f"{TO}, rewrite: {{authority: a}}", []),
    (f"{TO}, rewrite: {{}}", ["rewrite"]),
    (
        f"{TO}, rewrite: {{uri: /a, uriRegexRewrite: {{match: '[', rewrite: b}}}}",
        ["rewrite.uriRegexRewrite", "rewrite.uriRegexRewrite.match"],
    ),
    (f"{TO}, rewrite: {{uriRegexRewrite: {{match: a}}}}", ["rewrite.uriRegexRewrite"]),
    (f"{TO}, rewrite: {{authority: a}}, headers: {{request: {{set: {{Host: b}}}}}}", ["headers.request.set"]),
    (f"{TO}, headers: {{request: {{set: {{Host: b}}}}}}", []),
    (f"{TO}, headers: {{request: {{set: {{Host: b, ':authority': c}}}}}}", ["headers.request.set"]),
    (
        f"{TO}, headers: {{request: {{add: {{':path': b}}, remove: [host]}}, response: {{set: {{Host: b}}}}}}",
        ["~headers.request.add", "~headers.request.remove", "~headers.response.set"],
    ),
    (
        "rewrite: {authority: a}, route: [{destination: {host: b}, headers: {request: {set: {Host: b}}}}]",
        ["?route[0].headers.request.set"],
    ),
    (
        f"{TO}, rewrite: {{uri: /}}, headers: {{response: {{add: {{'': a, b: '%c'}}, remove: ['']}}}}",
        ["headers.response.add", "headers.response.remove", "headers.response.add.b"],
    ),
    ("route: [{destination: {host: b}, headers: {request: {add: {a: '%PROTOCOL% %REQ(X-A):9% %%'}}}}]", []),
    (
        f"{TO}, corsPolicy: {{allowOrigins: [{{}}, {{exact: a}}], allowMethods: [GET, PUTT], maxAge: 1.5s}}",
        ["corsPolicy.allowOrigins[0]", "corsPolicy.allowMethods[1]", "corsPolicy.maxAge"],
    ),
    (f"{TO}, corsPolicy: {{maxAge: 2s}}", []),
    (
        f"{TO}, corsPolicy: {{maxAge: 0s, allowHeaders: ['*', a b], exposeHeaders: ['']}}",
        ["~corsPolicy.maxAge", "~corsPolicy.allowHeaders[1]", "~corsPolicy.exposeHeaders[0]"],
    ),
    (f"{TO}, timeout: 0s", ["~timeout"]),
    (f"{TO}, timeout: -1s", ["timeout"]),
    (f"{TO}, timeout: 1500us", ["timeout"]),
    (f"{TO}, fault: {{}}", ["fault"]),
    (
        f"{TO}, fault: {{delay: {{fixedDelay: 1s, percent: 101, percentage: {{value: -1}}}}}}",
        ["fault.delay.percent", "fault.delay.percentage"],
    ),
    (
        f"{TO}, fault: {{delay: {{percentage: {{value: 0.00001}}}}}}",
        ["fault.delay.percentage"],
    ),
    (f"{TO}, fault: {{abort: {{httpStatus: 99, percent: -1}}}}", ["fault.abort.percent", "fault.abort.httpStatus"]),
    (f"{TO}, fault: {{abort: {{percentage: {{value: 50}}}}}}", ["?fault.abort"]),
    (f"{TO}, fault: {{abort: {{grpcStatus: NOPE}}}}", ["fault.abort.grpcStatus"]),
    (f"{TO}, fault: {{abort: {{httpStatus: 500, grpcStatus: OK}}}}", ["fault.abort.grpcStatus"]),
    (
        f"{TO}, fault: {{abort: {{http2Error: a}}, delay: {{exponentialDelay: 1s}}}}",
        ["~fault.abort.http2Error", "~fault.delay.exponentialDelay"],
    ),
    (f"{TO}, fault: {{abort: {{grpcStatus: UNAVAILABLE}}}}, retries: {{attempts: 2, perTryTimeout: 1s}}", []),
    (f"{TO}, retries: {{attempts: -1}}", ["retries.attempts"]),
    (f"{TO}, retries: {{attempts: 0, retryOn: 5xx}}", ["retries.attempts"]),
    (f"{TO}, retries: {{attempts: 0}}", []),
    (f"{TO}, retries: {{attempts: 1, retryOn: '5xx,reset-before-request,429'}}", []),
    (f"{TO}, retries: {{attempts: 1, retryOn: '5xx,conect-failure, 503,4290,'}}", ["~retries.retryOn"] * 4),
    (f"{TO}, retries: {{attempts: 0, retryRemoteLocalities: false}}", ["retries.attempts"]),
    (f"{TO}, retries: {{attempts: 1, retryOn: '5xx,503,reset'}}", []),
    (f"{TO}, retries: {{attempts: 1, retryOn: '5xx, 503,999,nope'}}", ["~retries.retryOn"] * 3),
    (f"{TO}, retries: {{attempts: 1, perTryTimeout: 0s, backoff: 1us}}", ["retries.perTryTimeout", "retries.backoff"]),
    (
        f"{TO}, mirror: {{host: c}}, mirrors: [{{percentage: {{value: 101}}}}]",
        ["mirrors", "mirrors[0].percentage", "mirrors[0].destination"],
    ),
    (f"{TO}, mirror: {{}}", ["mirror.host"]),
    (f"{TO}, mirror: {{host: c}}, mirrorPercent: 101", ["mirrorPercent", "?mirrorPercent"]),
]


@pytest.mark.parametrize(("route", "fields"), HTTP)
def test_http_rules(route: str, fields: list[str]) -> None:
    parsed = tables.parsed("VirtualService", f"{{hosts: [b], http: [{{{route}}}]}}")
    expected = [(f[:1] if f[:1] in tables.MARKS else "") + f"spec.http[0].{f.lstrip('?~')}".rstrip(".") for f in fields]
    assert sorted(tables.fields(parsed)) == sorted(expected)
    assert (parsed.object is None) == any(field[:1] not in tables.MARKS for field in fields)
