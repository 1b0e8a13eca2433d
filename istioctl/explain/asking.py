"""What the command ``explain`` does: flags in, a journey out."""

from __future__ import annotations

import argparse
import sys
import time

from crds.diagnostic import Code
from istioctl import dump, options, output, reach
from istioctl.errors import CommandError
from istioctl.explain import log_line, rendering
from istioctl.explain.live import Running
from istioctl.explain.offline import Files
from istioctl.offline import world
from istiod.explain import journey, question
from istiod.explain.journey import Journey, Mesh
from istiod.explain.question import Question, QuestionError


def run(given: argparse.Namespace) -> int:
    """Answer, and print the answer.

    Raises:
        CommandError: the question cannot be answered.
    """
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
    for flag, address in (("--ip", given.ip), ("--source-ip", given.source_ip)):
        if address and not question.is_address(address):
            raise CommandError(f"{flag} {address!r} is no IP address")
    try:
        return _asked(given)
    except QuestionError as error:
        raise CommandError(str(error)) from error


def _asked(given: argparse.Namespace) -> Question:
    scheme, host, port, path = question.parsed(given.url)
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
    if given.dump and given.filename:
        raise CommandError("--dump is of a proxy of a running mesh: leave -f out")
    if not given.filename:
        return Running(options.control_planes(given), _own(given.dump) if given.dump else None)
    read = world.read(given.filename)
    for one in world.errors(read):
        output.complain(str(one), "Warning")
    twice = sum(one.code is Code.DUPLICATE_OBJECT for one in read.findings)
    if twice:
        output.complain(f"{twice} objects stand in an earlier file, too: the first by name counts", "Warning")
    return Files(read)


def _own(file: str) -> dump.Dump:
    with dump.legible(file):
        return dump.parse(reach.File(file).ask("/config_dump"), file)
