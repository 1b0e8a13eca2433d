"""``istioctl dashboard``: a page of the cluster on this machine, until Ctrl-C (features row U7).

Each connection to a local port becomes a port-forward of its own; what goes through it is not looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from istioctl import options, output
from istioctl.errors import CommandError
from wire import names

_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where a page is: pods of the control plane's namespace by ``selector``, or "" for pods that the user names."""

    selector: str
    port: int
    path: str = "/"


PAGES: Final = {
    "envoy": Page(selector="", port=15000),
    "proxy": Page(selector="", port=15000),
    "istiod-debug": Page(selector="app=istiod", port=names.DEBUG_PORT, path="/debug"),
    "prometheus": Page(selector="app.kubernetes.io/name=prometheus", port=9090),
    "grafana": Page(selector="app.kubernetes.io/name=grafana", port=3000),
    "kiali": Page(selector="app=kiali", port=20001, path="/kiali"),
    "jaeger": Page(selector="app=jaeger", port=16686),
    "zipkin": Page(selector="app=zipkin", port=9411),
}
"""By command, as Istio's addons are labelled and listen."""


def register(subparsers: Any) -> None:
    """Add the command and those below it."""
    parser = subparsers.add_parser(
        "dashboard",
        aliases=["dash", "d"],
        parents=[options.shared()],
        help="a page on this machine",
        allow_abbrev=False,
    )
    below = parser.add_subparsers(required=True, metavar="PAGE")
    for name, page in PAGES.items():
        one = below.add_parser(name, parents=[options.shared()], help=f"port {page.port}", allow_abbrev=False)
        if not page.selector:
            one.add_argument("pod", metavar="[TYPE/]NAME[.NAMESPACE]")
        one.add_argument("-p", "--port", type=int, default=0, help="local port; 0: any that is free")
        one.add_argument("--address", default="localhost", help="local address")
        options.add_truth(one, "--browser", default=True, text="open a browser")
        one.set_defaults(run=_run, page=page)


def _run(given: argparse.Namespace) -> int:
    page: Page = given.page
    where = options.cluster(given)
    pod = (where.beside(page.selector) if page.selector else where.pods(given.pod))[0]
    try:
        listener = socket.create_server((given.address, given.port))
    except (OSError, OverflowError) as error:
        raise CommandError(f"cannot listen on {given.address}:{given.port}: {error}") from error
    with listener:
        url = f"http://{given.address}:{listener.getsockname()[1]}{page.path}"
        output.say(f"{url}\n")
        if given.browser:
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            serve(listener, lambda: where.tunnel(pod, page.port))
    return 0


def serve(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Carry each connection to the other end of a new one that ``connect`` gives, until the listener is shut down."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(client, connect), daemon=True).start()


def _carry(client: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with client:
        try:
            server = connect()
        except CommandError as error:
            output.complain(str(error))
            return
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()
        server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """What comes, until its end, which is told."""
    with contextlib.suppress(OSError):
        while part := source.recv(_CHUNK):
            sink.sendall(part)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
