"""``istioctl proxy-status`` (``ps``): which proxies have what istiod has for them (features row U4)."""

from __future__ import annotations

import argparse
import urllib.parse
from collections.abc import Sequence
from typing import Any, Final

from istioctl import comparison, dump, options, output, reach, syncz
from istioctl.errors import CommandError
from istioctl.syncz import Synced

_STATE: Final = 1


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "proxy-status",
        aliases=["ps"],
        parents=[options.shared()],
        help="which proxies are in sync with istiod; of one proxy, what differs",
        allow_abbrev=False,
    )
    parser.add_argument("pod", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
    parser.add_argument("-f", "--file", default="", help="a saved dump of the pod's Envoy; - is standard input")
    parser.add_argument("--admin-address", default="", metavar="HOST:PORT", help="the pod's Envoy is here")
    parser.add_argument(
        *("-v", "--verbosity"),
        type=int,
        default=_STATE,
        help="0: only which types a proxy asks for; 1: the state of each",
    )
    options.add_control_plane(parser)
    options.add_output(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    planes = options.control_planes(given)
    if given.pod or given.file or given.admin_address:
        output.say(_difference(given, planes))
        return 0
    found, silent = syncz.fetch(planes)
    for reason in silent:
        output.complain(f"the proxies of one istiod are missing here: {reason}", "Warning")
    if given.namespace:
        found = [each for each in found if each.name.endswith(f".{given.namespace}")]
    if not found:
        where = f' in namespace "{given.namespace}"' if given.namespace else ""
        raise CommandError(f"no proxies found{where} (checked {len(planes)} istiods)")
    output.say(rendered(found, given.output, given.verbosity, colour=output.is_terminal()))
    return 0


def rendered(found: Sequence[Synced], form: str, verbosity: int = _STATE, *, colour: bool = False) -> str:
    """All proxies as a table or for programs."""
    if form != "short":
        return output.structured([_plain(each) for each in found], form)
    if verbosity < _STATE:
        header = ("NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES")
        brief = [(each.name, each.cluster, each.istiod, each.version, _subscribed(each)) for each in found]
        return output.table(header, brief, colour=colour)
    kinds = syncz.columns(found)
    rows = [(e.name, e.cluster, *(e.of(kind) for kind in kinds), e.istiod, e.version) for e in found]
    table = output.table(("NAME", "CLUSTER", *kinds, "ISTIOD", "VERSION"), rows, colour=colour)
    said = [f"{each.name}: {kind} refused: {text}" for each in found for kind, text in each.errors.items()]
    said += [f"{each.name}: Envoy {each.envoy} does without {what}" for each in found for what in each.lacks]
    return table + "".join(f"{line}\n" for line in ("", *said) if said)


def _subscribed(each: Synced) -> str:
    kinds = [kind for kind in syncz.columns([each]) if kind in each.types]
    return f"{len(kinds)} ({','.join(kinds)})"


def _plain(each: Synced) -> dict[str, Any]:
    return {
        "proxy": each.name,
        "cluster_id": each.cluster,
        "istiod": each.istiod,
        "istio_version": each.version,
        "envoy_version": each.envoy,
        "lacks": list(each.lacks),
        "types": dict(each.types),
        "errors": dict(each.errors),
    }


def _difference(given: argparse.Namespace, planes: Sequence[reach.Address]) -> str:
    admin = options.admins(given, given.pod)[0]
    with dump.legible(given.file):
        envoy = dump.parse(admin.ask("/config_dump?include_eds"), admin.name)
        return comparison.report(_held(planes, _proxy(given, admin, envoy)), envoy)


def _proxy(given: argparse.Namespace, admin: reach.Admin, envoy: dump.Dump) -> str:
    """POD.NAMESPACE, as istiod calls the proxy: of the pod, or of the dump's own node."""
    if not (given.file or given.admin_address):
        return admin.name
    if owner := envoy.owner():
        return owner
    if given.pod:
        return f"{given.pod}.{given.namespace}" if given.namespace else str(given.pod)
    raise CommandError(f"{admin.name}: the dump does not say which proxy it is of; name the pod too")


def _held(planes: Sequence[reach.Address], proxy: str) -> dump.Dump:
    """What istiod has for the proxy: of the replica to which it is connected."""
    refusals = []
    for plane in planes:
        try:
            text = plane.ask(f"/debug/config_dump?proxyID={urllib.parse.quote(proxy)}")
        except CommandError as error:
            refusals.append(str(error))
        else:
            return dump.parse(text, plane.name)
    raise CommandError(f"no istiod has {proxy}: " + "; ".join(refusals))
