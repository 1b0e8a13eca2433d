"""``proxy-status`` and ``version`` against pages that small servers give: several replicas, refusals, differences."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from istioctl import __main__ as program
from tests.istioctl.test_proxy_config import DUMP, GOLDEN
from wire import names

NODE = "productpage-v1-qqdfq5v9s-42nff.default"


@contextlib.contextmanager
def istiod(pages: Mapping[str, Any]) -> Iterator[str]:
    """Answers these pages; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path)
            body = (found if isinstance(found, str) else json.dumps(found)).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def proxy(name: str, version: str = "1.30.0", **types: str) -> dict[str, Any]:
    return {
        "proxy": name,
        "cluster_id": "Kubernetes",
        "istio_version": version,
        "types": {
            kind: {"sync": sync.partition(":")[0], "error": sync.partition(":")[2]} for kind, sync in types.items()
        },
    }


A = {"envoy_version": "1.36.4", "lacks": ["x"]} | proxy(
    "a.shop", Cluster="SYNCED", Listener="STALE:no such filter", ClusterLoadAssignment="SYNCED"
)
B = proxy("b.shop", "1.29.0", Cluster="SYNCED", RouteConfiguration="NOT SENT", Secret="SYNCED")


def columns(text: str) -> list[list[str]]:
    return [line.replace("NOT SENT", "NOT_SENT").split() for line in text.splitlines()]


def test_all_proxies_of_all_replicas_are_listed_with_what_they_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({"/debug/syncz": [B]}) as one, istiod({"/debug/syncz": [A]}) as two:
        assert program.main(["ps", "--monitoring-address", one, "--monitoring-address", two]) == 0
        assert columns(capsys.readouterr().out) == [
            ["NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "SDS", "ISTIOD", "VERSION"],
            ["a.shop", "Kubernetes", "SYNCED", "STALE", "SYNCED", "IGNORED", "IGNORED", two, "1.30.0"],
            ["b.shop", "Kubernetes", "SYNCED", "IGNORED", "IGNORED", "NOT_SENT", "SYNCED", one, "1.29.0"],
            [],
            ["a.shop:", "LDS", "refused:", "no", "such", "filter"],
            ["a.shop:", "Envoy", "1.36.4", "does", "without", "x"],
        ]
        assert program.main(["proxy-status", "-v", "0", "--monitoring-address", one]) == 0
        assert columns(capsys.readouterr().out)[1] == ["b.shop", "Kubernetes", one, "1.29.0", "3", "(CDS,RDS,SDS)"]
        assert program.main(["-n", "shop", "ps", "-o", "json", "--monitoring-address", two]) == 0
        assert json.loads(capsys.readouterr().out)[0]["types"]["LDS"] == "STALE"


def test_an_istiod_that_does_not_answer_hides_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({"/debug/syncz": [A]}) as first, istiod({}) as second:
        arguments = ["proxy-status", "--monitoring-address", first, "--monitoring-address", second]
        assert program.main(arguments) == 0
        told = capsys.readouterr()
        assert ["a.shop", "Kubernetes"] in [row[:2] for row in columns(told.out)]
        assert second in told.err

        assert program.main(["proxy-status", "--monitoring-address", second]) == 1
        assert second in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pages", "arguments", "reason"),
    [
        ({"/debug/syncz": []}, (), "no proxies found (checked 1 istiods)"),
        ({"/debug/syncz": [A]}, ("-n", "other"), 'no proxies found in namespace "other"'),
        ({"/debug/syncz": "<html>"}, (), "/debug/syncz is not what istiod says"),
        ({"/debug/syncz": [{}]}, (), "/debug/syncz is not what istiod says"),
        ({}, (), "/debug/syncz answered 404"),
        ({}, ("-f", DUMP), f"no istiod has {NODE}"),
    ],
)
def test_what_istiod_does_not_say_is_an_error(
    capsys: pytest.CaptureFixture[str], pages: dict[str, Any], arguments: tuple[str, ...], reason: str
) -> None:
    with istiod(pages) as address:
        assert program.main(["ps", *arguments, "--monitoring-address", address]) == 1
    assert reason in capsys.readouterr().err


def changed(change: Callable[[dict[str, Any]], None]) -> Any:
    """The golden dump without its static parts, as istiod has it, after a change."""
    whole = json.loads((GOLDEN / "config_dump.json").read_text())
    sections = {each["@type"].rpartition(".")[2]: each for each in whole["configs"]}
    for section in sections.values():
        for part in [part for part in section if part.startswith("static_")]:
            del section[part]
    change(sections)
    return whole


def test_a_proxy_is_laid_beside_what_istiod_has_for_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def rename(sections: dict[str, Any]) -> None:
        host = sections["RoutesConfigDump"]["dynamic_route_configs"][0]["route_config"]["virtual_hosts"][0]
        host["name"] = "renamed"

    page = f"/debug/config_dump?proxyID={NODE}"
    with (
        istiod({}) as other,
        istiod({page: changed(lambda _: None)}) as same,
        istiod({page: changed(rename)}) as differs,
    ):
        addresses = ("--monitoring-address", other, "--monitoring-address")
        assert program.main(["ps", "-f", DUMP, *addresses, same]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == ["Clusters Match", "Listeners Match"]
        assert lines[2].startswith("Routes Match (RDS last loaded at 20")
        assert lines[3] == "Endpoints Match"
        assert program.main(["ps", NODE, "-f", DUMP, *addresses, differs]) == 0
        out = capsys.readouterr().out
        assert "--- Istiod Routes\n+++ Envoy Routes\n" in out
        assert '-         "name": "renamed",\n' in out
        nameless = tmp_path / "dump.json"
        nameless.write_text('{"configs": []}')
        assert program.main(["ps", "-f", str(nameless), *addresses, same]) == 1
        assert "does not say which proxy it is of" in capsys.readouterr().err


def test_versions_of_client_control_plane_and_proxies(capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({"/debug/syncz": [A, B], "/version": "1.30.0\n"}) as address:
        assert program.main(["version", "--monitoring-address", address]) == 0
        assert capsys.readouterr().out == (
            f"client version: {names.VERSION}\ncontrol plane version: 1.30.0\n"
            "data plane version: 1.29.0 (1 proxies), 1.30.0 (1 proxies)\n"
        )
        assert program.main(["version", "-o", "json", "--monitoring-address", address]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["clientVersion"]["version"] == names.VERSION
        assert [each["IstioVersion"] for each in found["dataPlaneVersion"]] == ["1.30.0", "1.29.0"]
    assert program.main(["version", "--remote=false", "--short=false"]) == 0
    assert capsys.readouterr().out == f"client version: version.BuildInfo{{Version:'{names.VERSION}'}}\n"
    assert program.main(["version", "-s", "--remote=0", "--short"]) == 0
    assert capsys.readouterr().out == f"client version: {names.VERSION}\n"
    assert program.main(["version", "--monitoring-address", address]) == 1
    said = capsys.readouterr()
    assert said.out == f"client version: {names.VERSION}\n"
    assert "the control plane's version is not known" in said.err


def test_the_version_of_an_istiod_that_does_not_answer_hides_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({"/version": "1.30.0\n", "/debug/syncz": [A]}) as first, istiod({}) as second:
        arguments = ["version", "--monitoring-address", second, "--monitoring-address", first]
        assert program.main(arguments) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == ["control plane version: 1.30.0", "data plane version: 1.30.0 (1 proxies)"]
    assert said.err.count("Warning: ") == 1
    assert second in said.err


def test_a_cluster_that_is_none_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    for text, reason in (
        ("", "no Kubernetes cluster: Invalid kube-config"),
        ("apiVersion: v1\nkind: Config\ncontexts: []\ncurrent-context: x\n", "no Kubernetes cluster"),
    ):
        kubeconfig.write_text(text)
        assert program.main(["ps", "--kubeconfig", str(kubeconfig)]) == 1
        assert reason in capsys.readouterr().err
