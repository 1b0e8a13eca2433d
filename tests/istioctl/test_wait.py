from __future__ import annotations

import argparse

import pytest

from istioctl import __main__ as program
from istioctl import options, wait
from istioctl.errors import CommandError
from tests.istioctl.test_control_plane import istiod

PAGE = "/debug/config_distribution?resource=VirtualService/shop/web"


@pytest.mark.parametrize(
    "name",
    ["vs", "virtualservice", "VirtualServices", "virtualservice.networking.istio.io", "vs.v1.networking.istio.io"],
)
def test_types_are_named_as_for_kubectl(name: str) -> None:
    assert wait.kind_of(name).kind == "VirtualService"


@pytest.mark.parametrize("name", ["service", "vs.example.com", "gateway.gateway.networking.k8s.io", "wasmplugin", ""])
def test_other_types_are_refused(name: str) -> None:
    with pytest.raises(CommandError, match="none of Istio's"):
        wait.kind_of(name)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30.0), ("1m30s", 90.0), ("500ms", 0.5), ("1.5h", 5400.0)])
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert options.seconds(text) == seconds


@pytest.mark.parametrize("text", ["30", "s", "1d", "-1s", "1s 2s", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.seconds(text)


@pytest.mark.parametrize("text", ["1.1", "-0.1", "nan", "all"])
def test_a_threshold_is_a_part(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        wait.ratio(text)


@pytest.mark.parametrize("command", [["wait"], ["x", "wait"], ["experimental", "wait"]])
def test_it_is_below_experimental_too_and_counts_the_proxies_of_all_replicas(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"exists": True, "generation": 3, "pending": False, "proxies": 2, "waiting": []}
    with istiod({PAGE: said}) as one, istiod({PAGE: said}) as two:
        both = ["--monitoring-address", one, "--monitoring-address", two]
        arguments = [*command, "--for=distribution", "virtualservice", "web.shop", "--generation=3", *both]
        assert program.main(arguments) == 0
    assert capsys.readouterr().out == "VirtualService/shop/web present on 4 out of 4 proxies\n"


@pytest.mark.parametrize("said", [{"exists": True}, [], "no JSON"])
def test_another_program_is_told(said: object, capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({PAGE: said}) as address:
        assert program.main(["wait", "vs", "web", "-n", "shop", "--monitoring-address", address]) == 1
    assert "is not what istiod says" in capsys.readouterr().err


def test_of_many_reasons_some_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = [{"proxy": f"web-{i}.shop", "reason": "it has not acknowledged it"} for i in range(9)]
    said = {"exists": True, "generation": 3, "pending": True, "proxies": 9, "waiting": waiting}
    with istiod({PAGE: said}) as address:
        arguments = ["wait", "vs", "web.shop", "--timeout", "0s", "--monitoring-address", address]
        assert program.main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7
    assert lines[-1] == "  and 5 more"


@pytest.mark.parametrize("what", ["distribution", "delete"])
def test_nobody_says_of_an_istiod_that_does_not_answer_what_it_knows(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["wait", "vs", "web.shop", "--for", what, "--timeout", "0s", "--monitoring-address", "127.0.0.1:1"]
    assert program.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: no istiod says how VirtualService/shop/web stands: 127.0.0.1:1: cannot get")
