"""``x internal-debug`` against pages that small servers give."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from istioctl import __main__ as program
from tests.istioctl.test_control_plane import istiod

PAGE = "/debug/config_dump?proxyID=a.shop"


def test_the_first_replica_that_has_a_page_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({}) as one, istiod({PAGE: {"configs": []}, "/debug/list": ["syncz"]}) as two:
        both = ["--monitoring-address", one, "--monitoring-address", two]
        assert program.main(["x", "internal-debug", "config_dump?proxyID=a.shop", *both]) == 0
        assert json.loads(capsys.readouterr().out) == {"configs": []}
        assert program.main(["x", "internal-debug", "--all", "/debug/list", "-o", "yaml", *both]) == 0
        said = capsys.readouterr()
        assert two in said.out
        assert "- syncz" in said.out
        assert one in said.err
        assert program.main(["x", "internal-debug", "absent", *both]) == 1
        assert "/debug/absent answered 404" in capsys.readouterr().err


def test_what_is_no_json_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({"/debug/syncz": "<html>"}) as one:
        assert program.main(["x", "internal-debug", "syncz", "--monitoring-address", one]) == 1
        assert "does not answer with JSON" in capsys.readouterr().err


def test_whoever_is_named_by_address_learns_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    """SEC32: what stands there may be anybody: it is asked as anybody would."""
    heads: list[dict[str, str]] = []

    class Recording(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heads.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Recording) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        assert program.main(["x", "internal-debug", "syncz", "--monitoring-address", address]) == 0
        thread.join()
    assert capsys.readouterr().out == "[]\n"
    assert len(heads) == 1
    assert set(heads[0]) == {"host", "accept-encoding"}


def test_no_other_server_is_asked_than_the_one_that_was_named(capsys: pytest.CaptureFixture[str]) -> None:
    """SEC32: without an address istiod is reached by the API server, whose certificate the kubeconfig's CA proves."""
    assert program.main(["x", "internal-debug", "syncz", "--kubeconfig", "/absent"]) == 1
    assert "no Kubernetes cluster" in capsys.readouterr().err
