"""The command ``explain``: flags in, a journey out."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from crds.diagnostic import Code
from istioctl import dump, options, output, reach
from istioctl.errors import CommandError
from istioctl.explain import journey, log_line, question, rendering
from istioctl.explain.journey import Journey, Mesh
from istioctl.explain.live import Running
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
    found, mesh = _followed(given)
    if given.output == "short":
        output.say(rendering.text(found, mesh.cause, verbose=given.verbose))
    else:
        output.say(output.structured(rendering.plain(found, mesh.cause), given.output))
    return 0


def _followed(given: argparse.Namespace) -> tuple[Journey, Mesh]:
    if bool(given.url) == bool(given.log_line):
        raise CommandError("give either a URL or --log-line")
    if given.url:
        request = asked(given)
        mesh = source(given)
        return journey.travel(mesh, request), mesh
    past = log_line.parsed(sys.stdin.readline() if given.log_line == "-" else given.log_line)
    mesh = source(given)
    return log_line.travel(mesh, given.client, given.namespace, past), mesh


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
        method=given.method or ("POST" if scheme == "grpc" else "GET"),
        headers=question.headers(given.header),
        claims=question.claims(given.claims),
        address=given.ip,
        source=given.source_ip,
        sni=given.sni,
        moment=time.time(),
    )


def source(given: argparse.Namespace) -> Mesh:
    """The mesh that is asked about: of files where some are named, else of the control plane.

    Raises:
        CommandError: it cannot be had.
    """
    if not given.filename:
        own = dump.parse(reach.File(given.dump).ask("/config_dump"), given.dump) if given.dump else None
        return Running(options.control_planes(given), own)
    read = world.read(given.filename)
    for one in world.errors(read):
        output.complain(str(one), "Warning")
    twice = sum(one.code is Code.DUPLICATE_OBJECT for one in read.findings)
    if twice:
        output.complain(f"{twice} objects stand in an earlier file, too: the first by name counts", "Warning")
    return Files(read)
