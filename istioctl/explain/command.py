"""The command ``explain``: its flags. What it does is asking.py's, imported when it runs."""

from __future__ import annotations

import argparse
from typing import Any

from istioctl import options

_EXAMPLE = "istioctl explain --from deploy/productpage.default http://reviews:9080/ -H 'end-user: jason' -f samples/"


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "explain",
        parents=[options.shared()],
        help="where a request goes and which line of YAML says so",
        description="Follows a request from a workload through every proxy on its way: listener, filter chain, "
        "authentication, authorization, route, cluster and endpoints, each with the object that caused it and the "
        f"rules that lost. Example: {_EXAMPLE}",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", nargs="?", default="", metavar="URL", help="http, https, grpc, tcp or tls: SCHEME://HOST[:PORT][/PATH]")
    add("--from", dest="client", required=True, metavar="[TYPE/]NAME[.NAMESPACE]", help="who calls; may be a gateway")
    add("-X", "--method", default="", help="method (default GET, of gRPC POST)")
    add("-H", "--header", action="append", default=[], metavar="NAME: VALUE", help="may stand several times")
    add("--claims", default="", metavar="JSON", help="claims of a good token that comes with the request")
    add("--ip", default="", metavar="ADDRESS", help="where the host's name leads, if not where the mesh says")
    add("--source-ip", default="", metavar="ADDRESS", help="who calls a gateway from outside")
    add("--sni", default="", help="server name of the client's TLS, if it is not the URL's host")
    add(
        *("-f", "--filename"),
        action="append",
        default=[],
        metavar="FILE|FOLDER",
        help="YAML instead of a running mesh; may stand several times",
    )
    add("--log-line", default="", metavar="LINE", help="in place of a URL: a line of --from's access log; - is stdin")
    add("--dump", default="", metavar="FILE", help="a saved dump of the client's own Envoy; - is standard input")
    options.add_control_plane(parser)
    options.add_truth(parser, "--verbose", default=False, text="every rule that lost")
    parser.add_argument("-o", "--output", choices=("short", "json", "yaml"), default="short", help="default: short")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from istioctl.explain import asking  # noqa: PLC0415 (the compiler's second of CPU is not other commands' to pay)

    return asking.run(given)
