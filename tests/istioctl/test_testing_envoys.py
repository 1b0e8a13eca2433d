"""``istioctl test --envoy``: real Envoys and the engine that only reads the configuration say the same of each test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from istioctl import __main__ as program
from tests.explain.test_real_envoy import KEYS
from tests.istioctl.test_explain import BASE, BOOKINFO
from tests.story import worlds

RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
    - match: [{uri: {prefix: /moved}}]
      redirect: {uri: /there, authority: other.example, redirectCode: 308}
    - match: [{uri: {prefix: /tea}}]
      directResponse: {status: 418}
      headers: {response: {set: {x-tea: green}}}
    - match: [{headers: {end-user: {exact: jason}}}]
      rewrite: {uri: /new, authority: other.example}
      headers:
        request: {set: {x-a: "1"}, remove: [x-b]}
        response: {set: {x-c: route}, remove: [x-istioctl-none]}
      route: [{destination: {host: reviews, subset: v3}}]
    - headers: {response: {set: {x-both: route}}, request: {set: {x-both: route}}}
      route:
        - {destination: {host: reviews, subset: v1}, weight: 70}
        - destination: {host: reviews, subset: v2}
          weight: 30
          headers: {response: {set: {x-both: place}}, request: {set: {x-both: place}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details}
spec:
  hosts: [details]
  http:
    - fault: {abort: {percentage: {value: 50}, httpStatus: 555}}
      route: [{destination: {host: details}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: viewers}
spec:
  selector: {matchLabels: {app: ratings}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/default/sa/bookinfo-reviews]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  selector: {matchLabels: {app: productpage}}
  jwtRules: [{issuer: me, jwks: 'KEYS'}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-guests}
spec:
  selector: {matchLabels: {app: productpage}}
  action: DENY
  rules:
    - when: [{key: "request.auth.claims[role]", values: [guest]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict}
spec:
  selector: {matchLabels: {app: details}}
  mtls: {mode: STRICT}
---
apiVersion: v1
kind: Service
metadata: {name: lines}
spec:
  selector: {app: ratings}
  ports: [{name: tcp, port: 7000, targetPort: 7000}, {name: grpc, port: 9090, targetPort: 9091}]
"""
TESTS = """
tests:
  - {name: redirect, from: productpage-v1, request: {url: "http://reviews:9080/moved"},
     expect: {status: 308, location: "http://other.example/there"}}
  - {name: direct response, from: productpage-v1, request: {url: "http://reviews:9080/tea"},
     expect: {status: 418, response: {headers: {x-tea: green, x-c: null}}, noRoute: false}}
  - {name: jason, from: productpage-v1,
     request: {url: "http://reviews:9080/old", headers: {end-user: jason, x-b: gone}},
     expect: {status: 200, reaches: {service: reviews, subset: v3}, rule: "VirtualService/default/reviews spec.http[2]",
              request: {host: other.example, path: /newold, headers: {x-a: "1", x-b: null}},
              response: {headers: {x-c: route}}}}
  - {name: shares, from: productpage-v1, request: {url: "http://reviews:9080/"},
     expect: {status: 200, response: {headers: {x-both: route}}, request: {headers: {x-both: route}},
              reaches: [{service: reviews, subset: v1, weight: 70}, {workload: reviews-v2, weight: 30}]}}
  - {name: only the head, from: reviews-v3, request: {url: "http://ratings:9080/", method: HEAD},
     expect: {status: 200, reaches: ratings-v1}}
  - {name: wrong shares, from: productpage-v1, request: {url: "http://reviews:9080/"},
     expect: {reaches: [{service: reviews, subset: v1, weight: 20}, {workload: reviews-v2, weight: 80}]}}
  - {name: half fails, from: productpage-v1, request: {url: "http://details:9080/"}, expect: {status: [200, 555]}}
  - {name: wrong place, from: reviews-v1, request: {url: "http://ratings:9080/"}, expect: {reaches: details-v1}}
  - {name: let in, from: {serviceAccount: bookinfo-reviews, namespace: default}, request: {url: "http://ratings:9080/"},
     expect: {status: 200, denied: false, reaches: ratings-v1}}
  - {name: refused, from: productpage-v1, request: {url: "http://ratings:9080/"},
     expect: {status: 403, denied: "AuthorizationPolicy/default/viewers"}}
  - {name: wrongly let in, from: productpage-v1, request: {url: "http://ratings:9080/"}, expect: {denied: false}}
  - {name: plain text, from: {outside: true}, request: {url: "http://details.default:9080/"}, expect: {closed: true}}
  - {name: guest, from: {gateway: ingressgateway},
     request: {host: a.example, path: /productpage, claims: {iss: me, sub: x, role: guest}},
     expect: {status: 403, denied: "AuthorizationPolicy/default/no-guests spec.rules[0]"}}
  - {name: member, from: {gateway: ingressgateway},
     request: {host: a.example, path: /productpage, claims: {iss: me, sub: x, role: member}},
     expect: {status: 200, denied: false, reaches: productpage-v1}}
  - {name: stranger, from: {gateway: ingressgateway},
     request: {host: a.example, path: /productpage, claims: {iss: you, sub: x}}, expect: {status: 401, denied: true}}
  - {name: nothing there, from: {gateway: ingressgateway}, request: {host: a.example, path: /x},
     expect: {noRoute: true, status: 404}}
  - {name: grpc, from: reviews-v2, request: {url: "grpc://lines:9090/a.B/C"},
     expect: {status: 200, reaches: ratings-v1, request: {path: /a.B/C}}}
  - {name: grpc over HTTP/1.1, from: reviews-v2, request: {url: "grpc://ratings:9080/a.B/C"}, expect: {status: 503}}
  - {name: grpc refused, from: productpage-v1, request: {url: "grpc://ratings:9080/a.B/C"}, expect: {status: 403}}
  - {name: tcp, from: reviews-v2, request: {url: "tcp://lines:7000"}, expect: {closed: false, reaches: ratings-v1}}
  - {name: tcp refused, from: productpage-v1, request: {url: "tcp://lines:7000"}, expect: {closed: true}}
  - {name: own tls, from: reviews-v2, request: {url: "tls://lines:7000"}, expect: {closed: false, reaches: ratings-v1}}
"""
WRONG = {"wrong shares": ["reaches", "reaches"], "wrong place": ["reaches"], "wrongly let in": ["denied"]}
ELSEWHERE = """
  - {name: far, from: productpage-v1, request: {url: "http://unknown.example/"}, expect: {reaches: {outside: true}}}
  - {name: by address, from: productpage-v1, request: {url: "http://10.9.9.9/"}, expect: {status: 200}}
  - {name: whence, from: {gateway: ingressgateway, address: 192.0.2.7}, request: {host: a.example},
     expect: {status: 200}}
  - {name: no port, from: {gateway: ingressgateway}, request: {host: a.example, port: 99}, expect: {closed: true}}
"""


def run(capsys: pytest.CaptureFixture[str], folder: Path, tests: str, *flags: str) -> tuple[int, list[dict[str, Any]]]:
    (folder / "rules.yaml").write_text(RULES.replace("KEYS", KEYS).strip())
    (folder / "tests.yaml").write_text(tests)
    mesh = [word for each in BASE for word in ("-f", str(BOOKINFO / each))]
    mesh += ["-f", str(folder / "rules.yaml")]
    code = program.main(["test", str(folder / "tests.yaml"), *mesh, "-o", "json", *flags])
    said = capsys.readouterr()
    assert "Error" not in said.err
    return code, json.loads(said.out)


def failed(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {one["name"]: [each["field"] for each in one["failures"]] for one in found if one["failures"]}


@pytest.mark.root
@pytest.mark.envoy
@pytest.mark.timeout(240)
@pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here())
def test_both_engines_say_the_same_of_every_test(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, compiled = run(capsys, tmp_path, TESTS)
    assert (code, failed(compiled)) == (1, WRONG)
    code, real = run(capsys, tmp_path, TESTS + ELSEWHERE, "--envoy")
    assert (code, failed(real)) == (1, WRONG), real
    results = {one["name"]: one["result"] for one in real}
    skipped = [one["name"] for one in compiled if results[one["name"]] == "skipped"]
    assert skipped == []
    assert [results[name] for name in ("far", "by address", "whence", "no port")] == ["skipped"] * 4
    blind = {one["name"]: one["unseen"] for one in real if one["unseen"]}
    assert blind == {"refused": ["denied"]}  # which policy lets nobody in is not in Envoy's log
    (lines,) = ([each["causes"] for each in one["failures"]] for one in real if one["name"] == "wrong shares")
    assert "VirtualService/default/reviews spec.http[3]" in lines[0][0]


def test_tests_that_nothing_on_this_machine_can_show_start_no_mesh(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, found = run(capsys, tmp_path, f"tests:{ELSEWHERE}", "--envoy")
    assert code == 0
    assert [one["result"] for one in found] == ["skipped"] * 4
    assert [one["reason"] for one in found] == [
        "the request leaves the mesh, and there is nothing outside of a mesh on this machine",
        "addresses are others in a mesh on this machine: name the host",
        "requests come from another address than from.address in a mesh on this machine",
        "no Service leads to port 99 of the gateway",
    ]
