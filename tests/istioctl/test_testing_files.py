"""``istioctl test``: what is said of files of tests that cannot be run, and with which exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.istioctl.test_explain import BOOKINFO
from tests.istioctl.test_testing import PAGE, Running, tests, to, virtual_service

__all__ = ["tests"]  # the fixture

BAD: dict[str, tuple[Callable[[dict[str, Any]], Any] | str, str]] = {
    "empty": ("", "has 0 documents; a file of tests has one"),
    "blank document": ("# nothing\n", "a file of tests has the fields mesh: and tests:"),
    "list": ("- 1\n", ":1: a file of tests has the fields mesh: and tests:"),
    "no yaml": ("tests: [\n", ":2: "),
    "two documents": ("tests: []\n---\ntests: []\n", "has 2 documents"),
    "no list": ("tests: null\nmesh: a.yaml\n", ":1: tests: must be a list"),
    "no such mesh": (lambda one: {"tests": [one], "mesh": ["absent.yaml"]}, "the mesh of"),
    "no tests": ("tests: []\n", ":1: tests: is empty"),
    "unknown field": (
        lambda one: one["expect"].update(statuses=200),
        "tests[0].expect.statuses: unknown field; did you mean status?",
    ),
    "unknown part": (lambda one: one.update(zzz=1), "tests[0].zzz: unknown field"),
    "unknown in a place": (
        lambda one: one["expect"].update(reaches=[{"services": "a"}]),
        "reaches[0].services: unknown field; did you mean service?",
    ),
    "no name": (lambda one: one.update(name=""), "tests[0].name: is empty"),
    "no request": (lambda one: one.pop("request"), "tests[0].request: is missing"),
    "no expectation": (lambda one: one.update(expect={}), "tests[0].expect: says nothing"),
    "no source": (lambda one: one.update({"from": {}}), "tests[0].from: name one of workload"),
    "two sources": (lambda one: one.update({"from": {"gateway": "a", "outside": True}}), "tests[0].from: name one of"),
    "address of none": (
        lambda one: one.update({"from": {"workload": "a", "address": "1.2.3.4"}}),
        "there is no gateway",
    ),
    "status": (
        lambda one: one["expect"].update(status=42),
        "tests[0].expect.status[0]: must be greater than or equal to 100",
    ),
    "status text": (lambda one: one["expect"].update(status="200"), "status[0]: must be a whole number"),
    "duration": (lambda one: one["expect"].update(timeout="3"), 'timeout: must be a duration such as "3s"'),
    "rule": (lambda one: one["expect"].update(rule="reviews"), "rule: must be KIND/NAMESPACE/NAME [FIELD]"),
    "denied": (lambda one: one["expect"].update(denied="nobody"), "denied: must be KIND/NAMESPACE/NAME"),
    "place": (lambda one: one["expect"].update(reaches={"subset": "v1"}), "reaches[0]: name a workload"),
    "subset alone": (
        lambda one: one["expect"].update(reaches={"subset": "v1", "workload": "x"}),
        "a subset is one of a service",
    ),
    "half of the weights": (
        lambda one: one["expect"].update(reaches=[{"workload": "a", "weight": 50}, "b"]),
        "give each destination of reaches a weight, or none",
    ),
    "weights": (lambda one: one["expect"].update(reaches=[{"workload": "a", "weight": 50}]), "must be 100 together"),
    "url and host": (lambda one: one["request"].update(host="a"), "give either url, or host"),
    "path": (lambda one: one.update(request={"host": "a", "path": "x"}), "path must begin with /"),
    "header": (lambda one: one["request"].update(headers={"a": 1}), "headers.a: must be a string; write it in quotes"),
    "url": (lambda one: one["request"].update(url="ftp://x/"), "test 'it': request: 'ftp://x/' is no URL of"),
    "port": (lambda one: one.update(request={"host": "a", "protocol": "TCP"}), "request: 'tcp://a' needs a port"),
    "address": (lambda one: one["request"].update(address="x"), "request.address: 'x' is no IP address"),
    "unknown workload": (
        lambda one: one.update({"from": "nobody"}),
        "test 'it': there is no workload 'nobody'; there are",
    ),
    "unknown account": (
        lambda one: one.update({"from": {"serviceAccount": "x", "namespace": "default"}}),
        "from: no workload with service account 'x' in namespace 'default'",
    ),
    "unknown namespace": (
        lambda one: one.update({"from": {"namespace": "x"}}),
        "no workload with pod in namespace 'x'",
    ),
    "other account": (
        lambda one: one.update({"from": {"workload": PAGE, "serviceAccount": "x"}}),
        "from: productpage-v1-0.default runs as service account bookinfo-productpage, not x",
    ),
    "no gateway": (
        lambda one: one.update({"from": {"gateway": PAGE}}),
        "from.gateway: productpage-v1-0.default is no gateway",
    ),
    "unknown destination": (lambda one: one["expect"].update(reaches="nobody"), "there is no workload 'nobody'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_place_field_and_reason(tests: Running, name: str) -> None:
    change, said = BAD[name]
    if isinstance(change, str):
        err = tests.refused(change)
    else:
        one: dict[str, Any] = {"name": "it", "from": PAGE, "request": {"url": "http://reviews:9080/"}, "expect": {}}
        one["expect"]["status"] = 200
        whole = change(one)
        err = tests.refused(whole if isinstance(whole, dict) and "mesh" in whole else {"tests": [one]})
    assert "Error: " in err
    assert str(tests.folder / "tests.yaml") in err
    assert said in err
    assert ("tests: is empty" in err) is (name == "no tests")


def test_what_else_cannot_be_run(tests: Running) -> None:
    case = {"name": "it", "from": PAGE, "request": {"url": "http://reviews:9080/"}, "expect": {"status": 200}}
    err = tests.refused({"tests": [case, case]})
    assert "tests[1].name: 'it' is an earlier test's name, too" in err
    path = tests.file({"tests": [case]})
    for arguments, said in (
        ((path,), "which mesh? Name its YAML with -f, or with mesh: in the file"),
        ((path, "-f", "/nowhere.yaml"), "there is no /nowhere.yaml"),
        (("/nowhere.yaml",), "there is no /nowhere.yaml"),
        ((str(BOOKINFO / "networking"),), "no file with tests: in"),
    ):
        code, out, err = tests.run(*arguments)
        assert (code, out) == (2, "")
        assert said in err
    bad = virtual_service("reviews", {"match": [{"uri": {"regex": "(a+"}}], "route": [to("reviews")]})
    assert "the mesh: " in tests.refused({"tests": [case]}, bad)
    (tests.folder / "tests.yaml").write_bytes(b"tests: \xff")
    assert tests.run(path)[0] == 2
