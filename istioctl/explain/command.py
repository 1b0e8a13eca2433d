"""The command ``explain``: flags in, a journey out."""

from __future__ import annotations

import argparse
import time
from typing import Any

from istioctl import options, output
from istioctl.errors import CommandError
from istioctl.explain import journey, question, rendering
from istioctl.explain.journey import Mesh
from istioctl.explain.offline import Files
from istioctl.explain.question import Question
from istioctl.offline import world

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
    add("url", metavar="URL", help="http, https, grpc, tcp or tls: SCHEME://HOST[:PORT][/PATH]")
    add("--from", dest="client", required=True, metavar="[TYPE/]NAME[.NAMESPACE]", help="who calls; may be a gateway")
    add("-X", "--method", default="GET", help="method (default GET)")
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
    options.add_truth(parser, "--verbose", default=False, text="every rule that lost")
    parser.add_argument("-o", "--output", choices=("short", "json", "yaml"), default="short", help="default: short")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    mesh = source(given)
    found = journey.travel(mesh, asked(given))
    if given.output == "short":
        output.say(rendering.text(found, mesh.cause, verbose=given.verbose))
    else:
        output.say(output.structured(rendering.plain(found, mesh.cause), given.output))
    return 0


def asked(given: argparse.Namespace) -> Question:
    """The question that the flags are.

    Raises:
        CommandError: one of them means nothing.
    """
    scheme, host, port, path = question.parsed(given.url)
    for flag, address in (("--ip", given.ip), ("--source-ip", given.source_ip)):
        if address and not question.is_address(address):
            raise CommandError(f"{flag} {address!r} is no IP address")
    return Question(
        workload=given.client,
        namespace=given.namespace,
        scheme=scheme,
        host=host,
        port=port,
        path=path,
        method=given.method,
        headers=question.headers(given.header),
        claims=question.claims(given.claims),
        address=given.ip,
        source=given.source_ip,
        sni=given.sni,
        moment=time.time(),
    )


def source(given: argparse.Namespace) -> Mesh:
    """The mesh that is asked about.

    Raises:
        CommandError: it cannot be had.
    """
    read = world.read(given.filename)
    for one in world.errors(read):
        output.complain(str(one), "Warning")
    return Files(read)
