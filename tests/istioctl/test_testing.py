"""``istioctl test`` without Envoys: what holds, what does not and why, and what is said of bad files."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from istioctl import __main__ as program
from tests.explain.test_real_envoy import KEYS
from tests.istioctl.test_explain import BASE, BOOKINFO, POLICY, STRICT
from tests.mesh import fleet

EXAMPLES = BOOKINFO / "tests"
PLAIN = fleet.dump(
    "v1",
    "Pod",
    "plain",
    labels={"sidecar.istio.io/inject": "false"},
    spec={"containers": [{"name": "app", "image": "app"}]},
)
PAGE = "productpage-v1"
EDGE = {"gateway": "ingressgateway"}


def virtual_service(name: str, *routes: dict[str, Any], **more: Any) -> str:
    return fleet.istio("VirtualService", name, {"hosts": [name], **more, "http": list(routes)})


def to(host: str, subset: str = "", **more: Any) -> dict[str, Any]:
    return {"destination": {"host": host, **({"subset": subset} if subset else {})}, **more}


class Running:
    """``istioctl test`` over BookInfo and some YAML of the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self.folder = folder

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output, complaints."""
        code = program.main(["test", *arguments])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def file(self, tests: str | dict[str, Any]) -> str:
        """A file of tests."""
        path = self.folder / "tests.yaml"
        path.write_text(tests if isinstance(tests, str) else yaml.safe_dump(tests))
        return str(path)

    def mesh(self, *more: str) -> list[str]:
        """The flags that name BookInfo and some texts."""
        found = []
        for number, each in enumerate((*BASE, *more)):
            path = BOOKINFO / each
            if "\n" in each:
                path = self.folder / f"{number}.yaml"
                path.write_text(each)
            found += ["-f", str(path)]
        return found

    def one(self, source: Any, request: dict[str, Any], expect: dict[str, Any], *more: str) -> list[dict[str, Any]]:
        """The failures of one test; none: it passed."""
        path = self.file({"tests": [{"name": "it", "from": source, "request": request, "expect": expect}]})
        code, out, err = self.run(path, *self.mesh(*more), "-o", "json")
        assert "Error: " not in err
        (found,) = json.loads(out)
        assert code == bool(found["failures"])
        failures: list[dict[str, Any]] = found["failures"]
        return failures

    def refused(self, tests: str | dict[str, Any], *more: str) -> str:
        """What is said of a file that cannot be run."""
        code, out, err = self.run(self.file(tests), *self.mesh(*more))
        assert (code, out) == (2, "")
        return err


@pytest.fixture
def tests(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Running:
    return Running(capsys, tmp_path)


def test_the_examples_hold(tests: Running) -> None:
    code, out, err = tests.run(str(EXAMPLES))
    assert (code, err) == (0, "")
    assert "  PASS  jason sees the reviews of v2" in out
    assert out.endswith("0 failed\n")


def test_a_failure_says_what_was_expected_what_happened_and_which_line_did_it(tests: Running) -> None:
    case = {
        "name": "bob sees v2",
        "from": PAGE,
        "request": {"url": "http://reviews:9080/", "headers": {"end-user": "bob"}},
        "expect": {"status": 200, "reaches": {"service": "reviews", "subset": "v2"}},
    }
    path = tests.file({"tests": [case]})
    code, out, _ = tests.run(path, *tests.mesh("networking/reviews-jason-v2.yaml"))
    assert code == 1
    assert "  FAIL  bob sees v2" in out
    assert f"at {path}:2" in out
    assert "expected  service reviews subset v2" in out
    assert "happened  100% reaches the app of reviews-v1-0.default at port 9080" in out
    assert "<- VirtualService/default/reviews spec.http[1] (" in out
    assert "reviews-jason-v2.yaml:14)" in out
    assert "not VirtualService/default/reviews spec.http[0] (" in out
    assert ": header end-user is 'bob', not 'jason'" in out
    assert "more: istioctl explain --from productpage-v1-0.default http://reviews:9080/ -H 'end-user: bob'" in out
    assert "1 test: 0 passed, 1 failed" in out


def test_the_hint_of_a_failure_is_a_command_that_runs(tests: Running) -> None:
    request = {
        "url": "https://reviews:9080/",
        "method": "PUT",
        "sni": "a",
        "address": "10.1.2.3",
        "claims": {"iss": "me"},
    }
    case = {"name": "x", "from": PAGE, "request": request, "expect": {"status": 404}}
    _, out, _ = tests.run(tests.file({"tests": [case]}), *tests.mesh())
    (hint,) = (line for line in out.splitlines() if "more: " in line)
    assert program.main(shlex.split(hint.partition("more: istioctl ")[2])) == 0
    assert """-X PUT https://reviews:9080/ --sni a --ip 10.1.2.3 --claims '{"iss": "me"}'""" in hint


def test_one_of_several_places_will_do_without_weights(tests: Running) -> None:
    request = {"url": "http://reviews:9080/"}
    split = "networking/reviews-80-20.yaml"
    assert tests.one(PAGE, request, {"reaches": ["reviews-v1", "reviews-v2"]}, split) == []
    assert tests.one(PAGE, request, {"reaches": {"workload": "reviews", "service": "reviews.default"}}, split) == []
    (one,) = tests.one(PAGE, request, {"reaches": "reviews-v1"}, split)
    assert "20% reaches the app of reviews-v2-0.default" in one["happened"]


def test_shares_are_held_against_weights(tests: Running) -> None:
    def reaches(first: float, second: float) -> list[dict[str, Any]]:
        return [
            {"service": "reviews", "subset": "v1", "weight": first},
            {"service": "reviews.default.svc.cluster.local", "subset": "v2", "weight": second},
        ]

    request, split = {"url": "http://reviews:9080/"}, "networking/reviews-80-20.yaml"
    assert tests.one(PAGE, request, {"reaches": reaches(80, 20)}, split) == []
    assert tests.one(PAGE, request, {"reaches": reaches(78, 22), "tolerance": 2}, split) == []
    (first, second) = tests.one(PAGE, request, {"reaches": reaches(75, 25)}, split)
    assert (first["expected"], first["happened"]) == ("75% service reviews subset v1", "80%")
    assert second["happened"] == "20%"
    assert "VirtualService/default/reviews spec.http[0]" in first["causes"][0]


@pytest.mark.parametrize(
    ("source", "method", "expect"),
    [
        (PAGE, "GET", {"status": 200, "denied": False, "rule": "AuthorizationPolicy/default/viewers spec.rules[0]"}),
        (PAGE, "POST", {"status": 403, "denied": True}),
        ("ratings-v1", "GET", {"denied": "AuthorizationPolicy/default/viewers", "status": [401, 403]}),
        ({"namespace": "default", "serviceAccount": "bookinfo-productpage"}, "GET", {"denied": False}),
        ({"outside": True}, "GET", {"denied": "AuthorizationPolicy/default/viewers"}),
    ],
)
def test_who_is_denied_and_by_which_policy(tests: Running, source: Any, method: str, expect: dict[str, Any]) -> None:
    request = {"url": "http://reviews.default:9080/", "method": method}
    assert tests.one(source, request, expect, POLICY) == []
    wrong = {"denied": "AuthorizationPolicy/default/other"}
    (one,) = tests.one(source, request, wrong, POLICY)
    assert one["field"] == "denied"
    assert "viewers" in one["happened"] or "reaches the app" in one["happened"]


def test_plain_text_is_refused_where_mtls_is_asked_for(tests: Running) -> None:
    request = {"url": "http://details.default:9080/"}
    for source in ({"outside": True}, "plain"):
        expect = {"closed": True, "denied": True}
        assert tests.one(source, request, expect, PLAIN, STRICT) == []
        assert tests.one(source, request, {"status": 200, "reaches": "details-v1"}, PLAIN) == []
    (one,) = tests.one(PAGE, request, {"closed": True}, STRICT)
    assert one["happened"] == "reaches the app of details-v1-0.default at port 9080"


def test_header_changes_are_seen_on_request_and_response(tests: Running) -> None:
    route = {
        "match": [{"uri": {"prefix": "/old"}}],
        "rewrite": {"uri": "/new", "authority": "other.example"},
        "headers": {
            "request": {"set": {"x-a": "1"}, "remove": ["x-b"]},
            "response": {"set": {"x-c": "route"}, "add": {"x-d": "2"}, "remove": ["x-e"]},
        },
        "route": [to("reviews", "v1", headers={"response": {"set": {"x-c": "place", "x-f": "3", "x-e": "4"}}})],
    }
    rules = virtual_service("reviews", route)
    request = {"url": "http://reviews:9080/old/1", "headers": {"X-B": "gone"}}
    good = {
        "request": {"host": "other.example", "path": "/new/1", "headers": {"X-A": "1", "x-b": None}},
        "response": {"headers": {"x-c": "place", "x-d": "2", "x-e": "4"}},
    }
    assert tests.one(PAGE, request, good, rules) == []
    bad = {
        "request": {"host": "reviews:9080", "path": "/old/1", "headers": {"x-a": "2", "x-b": "gone", "x-c": None}},
        "response": {"headers": {"x-c": None, "x-request-id": "1"}},
    }
    found = {one["field"]: one["happened"] for one in tests.one(PAGE, request, bad, rules)}
    assert found == {
        "request.host": "other.example",
        "request.path": "/new/1",
        "request.headers.x-a": "'1'",
        "request.headers.x-b": "absent",
        "response.headers.x-c": "'place'",
        "response.headers.x-request-id": "cannot be said offline: it is made while the request passes",
    }


def test_headers_of_answers_that_proxies_give_themselves(tests: Running) -> None:
    teapot = {"directResponse": {"status": 418}, "headers": {"response": {"set": {"x-tea": "%PROTOCOL%"}}}}
    moved = {
        "match": [{"uri": {"prefix": "/moved"}}],
        "redirect": {"uri": "/there", "authority": "other.example", "redirectCode": 308},
        "headers": {"response": {"set": {"x-m": "1"}}},
    }
    rules = virtual_service("reviews", moved, teapot)
    expect: dict[str, Any] = {
        "status": 308,
        "location": "http://other.example/there",
        "response": {"headers": {"x-m": "1"}},
    }
    assert tests.one(PAGE, {"url": "http://reviews:9080/moved"}, expect, rules) == []
    (one, two) = tests.one(
        PAGE, {"url": "http://reviews:9080/"}, {"location": "/", "response": {"headers": {"x-tea": "1"}}}, rules
    )
    assert one["happened"].startswith("no redirect (answered 418 by")
    assert two["happened"].startswith("cannot be said offline")


def test_what_a_page_of_another_origin_may_read_cannot_be_said(tests: Running) -> None:
    rules = virtual_service(
        "reviews", {"corsPolicy": {"allowOrigins": [{"exact": "http://a.example"}]}, "route": [to("reviews")]}
    )
    request = {"url": "http://reviews:9080/", "headers": {"origin": "http://a.example"}}
    (one,) = tests.one(PAGE, request, {"response": {"headers": {"access-control-allow-origin": "x"}}}, rules)
    assert one["happened"].startswith("cannot be said offline")


def test_timeouts_and_retries_are_those_of_the_route(tests: Running) -> None:
    rules = virtual_service(
        "reviews", {"timeout": "1.5s", "retries": {"attempts": 3, "perTryTimeout": "0.5s"}, "route": [to("reviews")]}
    )
    request = {"url": "http://reviews:9080/"}
    assert tests.one(PAGE, request, {"timeout": "1500ms", "retries": 3}, rules) == []
    found = {one["field"]: one["happened"] for one in tests.one(PAGE, request, {"timeout": "3s", "retries": 0}, rules)}
    assert found == {"timeout": "1.5s", "retries": "3"}
    assert tests.one(PAGE, request, {"timeout": "0s", "retries": 2}) == []


def test_a_fault_for_a_part_of_the_requests_is_a_part_of_the_answers(tests: Running) -> None:
    fault = {"abort": {"percentage": {"value": 25}, "httpStatus": 555}}
    rules = virtual_service("reviews", {"fault": fault, "route": [to("reviews", "v1")]})
    request = {"url": "http://reviews:9080/"}
    assert tests.one(PAGE, request, {"status": [200, 555]}, rules) == []
    (one,) = tests.one(PAGE, request, {"status": 200}, rules)
    assert one["happened"].startswith("25% of the requests: 555 (answered 555 by productpage-v1-0.default: fault")


def test_no_route_and_no_endpoint_are_told_apart(tests: Running) -> None:
    request = {"host": "bookinfo.example", "path": "/secret"}
    assert tests.one(EDGE, request, {"noRoute": True, "status": 404}) == []
    request["path"] = "/productpage"
    (one,) = tests.one(EDGE, request, {"noRoute": True})
    assert one["happened"] == "reaches the app of productpage-v1-0.default at port 9080"
    assert tests.one(EDGE, {"host": "bookinfo.example", "port": 99}, {"closed": True, "denied": False}) == []
    rules = virtual_service("reviews", {"route": [to("reviews", "v9")]})
    expect = {"status": 503, "noRoute": False, "closed": False}
    assert tests.one(PAGE, {"url": "http://reviews:9080/"}, expect, rules) == []
    (one,) = tests.one(
        PAGE, {"url": "http://reviews:9080/"}, {"request": {"path": "/"}, "reaches": "reviews-v1"}, rules
    )[:1]
    assert (one["field"], one["expected"]) == ("request", "a request that reaches an app")


def test_places_outside_of_the_mesh(tests: Running) -> None:
    entry = fleet.istio(
        "ServiceEntry",
        "out",
        {
            "hosts": ["api.example.com"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "192.0.2.7"}],
            "addresses": ["198.51.100.1"],
        },
    )
    request = {"url": "http://api.example.com/"}
    assert tests.one(PAGE, request, {"reaches": {"service": "api.example.com", "outside": True}}, entry) == []
    assert tests.one(PAGE, {"url": "http://unknown.example/"}, {"reaches": {"outside": True}}) == []
    (one,) = tests.one(PAGE, {"url": "http://reviews:9080/"}, {"reaches": {"outside": True}})
    assert one["expected"] == "outside of the mesh"


def test_tcp_and_grpc(tests: Running) -> None:
    request = {"protocol": "TCP", "host": "192.0.2.9", "port": 7000}
    assert tests.one(PAGE, request, {"reaches": {"outside": True}, "closed": False}) == []
    (one,) = tests.one(PAGE, request, {"status": 200})
    assert one["happened"].startswith("no status (")
    (one,) = tests.one(PAGE, {"url": "grpc://reviews:9080/a.B/C"}, {"status": 200})
    assert "over HTTP/1.1, which no gRPC server speaks" in one["happened"]
    ports = [{"name": "grpc", "port": 9090, "targetPort": 9080}]
    service = fleet.dump("v1", "Service", "calls", spec={"selector": {"app": "reviews"}, "ports": ports})
    expect = {"status": 200, "request": {"path": "/a.B/C"}}
    assert tests.one(PAGE, {"url": "grpc://calls:9090/a.B/C"}, expect, service) == []


def test_a_doubt_is_a_failure(tests: Running) -> None:
    provider = {
        "extensionProviders": [
            {"name": "p", "envoyExtAuthzHttp": {"service": "details.default.svc.cluster.local", "port": 9080}}
        ]
    }
    mesh = {"mesh": yaml.safe_dump(provider)}
    settings = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": mesh,
        }
    )
    ask = fleet.istio("AuthorizationPolicy", "ask", {"action": "CUSTOM", "provider": {"name": "p"}, "rules": [{}]})
    (one,) = tests.one(PAGE, {"url": "http://reviews:9080/"}, {"status": 200}, settings, ask)
    assert one["happened"].startswith("cannot be said offline: whether outbound|9080||details")


def test_claims_of_a_token_open_what_asks_for_them(tests: Running) -> None:
    rules = fleet.istio("RequestAuthentication", "tokens", {"jwtRules": [{"issuer": "me", "jwks": KEYS}]})
    policy = fleet.istio(
        "AuthorizationPolicy",
        "admins",
        {"rules": [{"when": [{"key": "request.auth.claims[role]", "values": ["admin"]}]}]},
    )
    request: dict[str, Any] = {"url": "http://reviews:9080/"}
    assert tests.one(PAGE, request, {"denied": "AuthorizationPolicy/default/admins"}, rules, policy) == []
    request["claims"] = {"iss": "me", "sub": "jason", "role": "admin"}
    assert tests.one(PAGE, request, {"status": 200, "denied": False}, rules, policy) == []


def test_junit_names_file_test_and_reason(tests: Running) -> None:
    cases = [
        {"name": "good", "from": PAGE, "request": {"url": "http://reviews:9080/"}, "expect": {"status": 200}},
        {"name": "bad <\x1b&>", "from": PAGE, "request": {"url": "http://reviews:9080/"}, "expect": {"status": 201}},
    ]
    path = tests.file({"tests": cases})
    code, out, _ = tests.run(path, *tests.mesh(), "-o", "junit")
    assert code == 1
    (suite,) = ET.fromstring(out)  # noqa: S314 (our own)
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (path, "2", "1")
    good, bad = suite
    assert (good.get("name"), list(good)) == ("good", [])
    assert bad.get("name") == "bad <&>"
    assert bad[0].get("message", "").startswith("status: expected 201, happened 200 (reaches")


def test_only_the_tests_whose_names_are_asked_for_run(tests: Running) -> None:
    code, out, _ = tests.run(str(EXAMPLES), "--filter", "jason$")
    assert code == 0
    assert "1 test: 1 passed" in out
    for pattern, said in (("nobody", "no test's name holds 'nobody'"), ("(", "is no regular expression")):
        code, out, err = tests.run(str(EXAMPLES), "--filter", pattern)
        assert (code, out) == (2, "")
        assert said in err


def test_files_of_tests_may_stand_among_those_of_the_mesh(tests: Running) -> None:
    (tests.folder / "mesh").mkdir()
    (tests.folder / "mesh" / "app.yaml").write_text((BOOKINFO / "bookinfo.yaml").read_text())
    case = "{name: x, from: productpage-v1, request: {url: 'http://reviews:9080/'}, expect: {status: 200}}"
    (tests.folder / "mesh" / "t.yaml").write_text(f"mesh: [.]\ntests: [{case}]\n")
    (tests.folder / "mesh" / "other.yaml").write_text("tests: {\n")
    (tests.folder / "mesh" / "more.yaml").write_text("a: 1\n---\nb: 1\n")
    code, _, err = tests.run(str(tests.folder / "mesh"))
    assert code == 2
    assert "other.yaml:2: " in err
    (tests.folder / "mesh" / "other.yaml").write_text("- {\n")
    code, _, err = tests.run(str(tests.folder / "mesh" / "t.yaml"))
    assert code == 2
    assert "the mesh: " in err
    assert "other.yaml" in err
