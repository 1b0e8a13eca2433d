"""``dashboard``: what comes to the local port goes to the other end, both ways, and one that fails hurts no other."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from istioctl import __main__ as program
from istioctl import dashboard
from istioctl.errors import CommandError
from tests.istioctl.test_control_plane import istiod


@contextlib.contextmanager
def relayed(connect: Callable[[], socket.socket]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=dashboard.serve, args=(listener, connect))
        serving.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)
        assert not serving.is_alive()


def asked(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/debug/list", headers={"connection": "close"})
    body = connection.getresponse().read()
    connection.close()
    return body


def test_each_connection_is_carried_to_a_connection_of_its_own() -> None:
    large = ["x" * 1_000] * 1_000
    with istiod({"/debug/list": large}) as address:
        host, _, port = address.partition(":")
        made: list[socket.socket] = []

        def connect() -> socket.socket:
            made.append(socket.create_connection((host, int(port))))
            return made[-1]

        with relayed(connect) as local:
            assert len(asked(local)) == len(asked(local)) > 1_000_000
        assert len(made) == 2


def test_a_pod_that_cannot_be_reached_is_said_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def connect() -> socket.socket:
        raise CommandError("cannot forward port 15014 of istiod-1.istio-system: gone")

    with relayed(connect) as local:
        for _ in range(2):
            with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                asked(local)
    assert capsys.readouterr().err.count("cannot forward port 15014") == 2


def test_without_a_cluster_there_is_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    for page in ("istiod-debug", "envoy web-1.shop", "grafana"):
        command = ["dashboard", *page.split(), "--browser=false", "--kubeconfig", "/absent"]
        assert program.main(command) == 1
        assert "no Kubernetes cluster" in capsys.readouterr().err
