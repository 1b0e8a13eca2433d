"""``istioctl proxy-config`` (``pc``): what one Envoy has (features rows U5, S110)."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from istioctl import camel, dump, logging_levels, options, output, reach
from istioctl.dump import Json
from istioctl.errors import CommandError
from istioctl.views import bootstrap, clusters, endpoints, listeners, routes, secrets

_LISTENER_PADDING: Final = 1
_FLAGS: Final[dict[str, dict[str, Any]]] = {
    "--fqdn": {"default": "", "help": "clusters of this host"},
    "--port": {"type": int, "default": 0, "help": "of this port"},
    "--subset": {"default": "", "help": "clusters of this subset"},
    "--direction": {"default": "", "help": "clusters of this direction: inbound or outbound"},
    "--address": {"default": "", "help": "of this address"},
    "--type": {"default": "", "help": "listeners of this type: HTTP, TCP or HTTP+TCP"},
    "--name": {"default": "", "help": "routes of this table"},
    "--cluster": {"default": "", "help": "endpoints of this cluster"},
    "--status": {"default": "", "help": "endpoints of this status: healthy, unhealthy, draining, ..."},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One kind of resource. The first of ``names`` is shown, the others are understood too."""

    names: tuple[str, ...]
    help: str
    show: Callable[[reach.Admin, argparse.Namespace], str]
    flags: tuple[str, ...] = ()
    output: str = "short"
    verbose: bool = False


def register(subparsers: Any) -> None:
    """Add the command."""
    command = subparsers.add_parser(
        "proxy-config",
        aliases=["pc"],
        parents=[options.shared()],
        help="what an Envoy has been configured with",
        allow_abbrev=False,
    )
    kinds = command.add_subparsers(required=True, metavar="KIND")
    for section in SECTIONS:
        _add(kinds, section)
    logging_levels.register(kinds)
    compare = kinds.add_parser(
        "rootca-compare",
        aliases=["rc"],
        parents=[options.shared()],
        help="whether two pods trust the same roots",
        allow_abbrev=False,
    )
    compare.add_argument("pods", nargs=2, metavar="POD[.NAMESPACE]")
    compare.set_defaults(run=_compare)


def _add(kinds: Any, section: Section) -> None:
    first, *others = section.names
    parser = kinds.add_parser(first, aliases=others, parents=[options.shared()], help=section.help, allow_abbrev=False)
    parser.add_argument("pod", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
    parser.add_argument("-f", "--file", default="", help="a saved dump of Envoy instead of a pod; - is standard input")
    parser.add_argument("--admin-address", default="", metavar="HOST:PORT", help="Envoy's admin interface here")
    options.add_output(parser, section.output)
    for flag in section.flags:
        parser.add_argument(flag, **_FLAGS[flag])
    if section.verbose:
        options.add_truth(parser, "--verbose", default=True, text="a row for each match, not each name")

    def run(given: argparse.Namespace) -> int:
        with dump.legible(given.file):
            said = section.show(options.admins(given, given.pod)[0], given)
        output.say(said)
        return 0

    parser.set_defaults(run=run)


def _dump(admin: reach.Admin, *, eds: bool = False) -> dump.Dump:
    return dump.parse(admin.ask("/config_dump?include_eds" if eds else "/config_dump"), admin.name)


def _table(header: output.Row, rows: Sequence[output.Row], padding: int = 5) -> str:
    return output.table(header, rows, padding, colour=output.is_terminal())


def _structured(found: Any, given: argparse.Namespace) -> str:
    """Resources without the type that their list says already."""
    if isinstance(found, list):
        found = [{key: value for key, value in each.items() if key != "@type"} for each in found]
    return output.structured(camel.converted(found), given.output)


def _clusters(held: dump.Dump, given: argparse.Namespace) -> str:
    wanted = clusters.Filter(fqdn=given.fqdn, port=given.port, subset=given.subset, direction=given.direction)
    found = clusters.selected(held.clusters(), wanted)
    return _table(clusters.HEADER, clusters.rows(found)) if given.output == "short" else _structured(found, given)


def _listeners(held: dump.Dump, given: argparse.Namespace) -> str:
    wanted = listeners.Filter(address=given.address, port=given.port, type=given.type)
    found = listeners.selected(held.listeners(), wanted)
    if given.output != "short":
        return _structured(found, given)
    if not given.verbose:
        return _table(listeners.BRIEF, listeners.brief(found), _LISTENER_PADDING)
    return _table(listeners.HEADER, listeners.rows(found), _LISTENER_PADDING)


def _routes(held: dump.Dump, given: argparse.Namespace) -> str:
    found = routes.selected(held.routes(), given.name)
    if given.output != "short":
        return _structured(found, given)
    if not given.verbose:
        return _table(routes.BRIEF, routes.brief(found))
    return _table(routes.HEADER, routes.rows(found))


def _secrets(held: dump.Dump, given: argparse.Namespace) -> str:
    if given.output != "short":
        section = {key: value for key, value in held.section("SecretsConfigDump").items() if key != "@type"}
        return _structured(section, given)
    found = secrets.rows(held.secrets(), dt.datetime.now(dt.UTC))
    return _table(secrets.HEADER, found) if found else "No secret items to show.\n"


def _bootstrap(held: dump.Dump, given: argparse.Namespace) -> str:
    section = {key: value for key, value in held.section("BootstrapConfigDump").items() if key != "@type"}
    return bootstrap.short(section) if given.output == "short" else _structured(section, given)


def _extensions(held: dump.Dump, given: argparse.Namespace) -> str:
    found = [each.get("ecds_filter", {}) for each in held.section("EcdsConfigDump").get("ecds_filters", ())]
    if given.output != "short":
        return _structured(found, given)
    rows = [(str(each.get("name", "")), _type(each)) for each in found]
    return _table(("ECDS NAME", "TYPE"), rows) if rows else "No extension configurations to show.\n"


def _type(each: Json) -> str:
    return str(each.get("typed_config", {}).get("@type", "")).rpartition("/")[2]


def _wanted(given: argparse.Namespace) -> endpoints.Filter:
    return endpoints.Filter(address=given.address, port=given.port, cluster=given.cluster, status=given.status)


def _endpoints(admin: reach.Admin, given: argparse.Namespace) -> str:
    text = admin.ask("/clusters?format=json")
    try:
        found = json.loads(text)["cluster_statuses"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise CommandError(f"{admin.name}: not Envoy's /clusters?format=json; a configuration dump has eds") from error
    found = endpoints.selected(found, _wanted(given))
    return _table(endpoints.HEADER, endpoints.rows(found)) if given.output == "short" else _structured(found, given)


def _eds(held: dump.Dump, given: argparse.Namespace) -> str:
    found = endpoints.selected_eds(held.endpoints(), _wanted(given))
    if given.output != "short":
        return _structured(found, given)
    return _table(endpoints.EDS_HEADER, endpoints.eds_rows(found))


def _everything(held: dump.Dump, given: argparse.Namespace) -> str:
    if given.output != "short":
        return _structured(held.whole, given)
    parts = (
        ("BOOTSTRAP", _bootstrap),
        ("CLUSTER", _clusters),
        ("LISTENER", _listeners),
        ("ROUTE", _routes),
        ("SECRET", _secrets),
        ("ENDPOINTS", _eds),
    )
    return "\n".join(f"------ {title} INFO ------\n\n{show(held, given)}" for title, show in parts)


def _compare(given: argparse.Namespace) -> int:
    where = options.cluster(given)
    pods = [where.pods(each)[0] for each in given.pods]
    output.say(compared({str(each): _dump(where.admin(each)) for each in pods}))
    return 0


def compared(pods: Mapping[str, dump.Dump]) -> str:
    """What the roots of two pods, by their names, say of calls between them.

    Raises:
        CommandError: they trust none in common, or one has none.
    """
    found = {name: secrets.roots(held.secrets(), "ROOTCA") for name, held in pods.items()}
    for name, roots in found.items():
        if not roots:
            raise CommandError(f"{name} has no ROOTCA")
    both = " and ".join(f"[{name}]" for name in found)
    first, *others = found.values()
    if all(roots == first for roots in others):
        return f"Both {both} have the identical ROOTCA, theoretically the connectivity between them is available"
    if all(roots & first for roots in others):
        return f"Both {both} trust common roots beside others: their root certificates are being rotated"
    raise CommandError(f"Both {both} have the non identical ROOTCA, theoretically they cannot connect to each other")


def _of(show: Callable[[dump.Dump, argparse.Namespace], str], *, eds: bool = False) -> Callable[..., str]:
    """A view of the dump as a view of an Envoy."""
    return lambda admin, given: show(_dump(admin, eds=eds), given)


_CLUSTER_FLAGS: Final = ("--fqdn", "--port", "--subset", "--direction")
_ENDPOINT_FLAGS: Final = ("--address", "--port", "--cluster", "--status")
SECTIONS: Final = (
    Section(
        names=("all", "a"),
        help="everything",
        show=_of(_everything, eds=True),
        flags=(*_CLUSTER_FLAGS, "--address", "--type", "--name", "--cluster", "--status"),
        verbose=True,
    ),
    Section(names=("bootstrap", "b"), help="what it was started with", show=_of(_bootstrap), output="json"),
    Section(names=("cluster", "clusters", "c"), help="its clusters", show=_of(_clusters), flags=_CLUSTER_FLAGS),
    Section(
        names=("listener", "listeners", "l"),
        help="its listeners",
        show=_of(_listeners),
        flags=("--address", "--port", "--type"),
        verbose=True,
    ),
    Section(names=("route", "routes", "r"), help="its routes", show=_of(_routes), flags=("--name",), verbose=True),
    Section(names=("endpoint", "endpoints", "ep"), help="its endpoints", show=_endpoints, flags=_ENDPOINT_FLAGS),
    Section(names=("eds",), help="the endpoints that istiod sent it", show=_of(_eds, eds=True), flags=_ENDPOINT_FLAGS),
    Section(names=("secret", "secrets", "s"), help="its certificates", show=_of(_secrets)),
    Section(names=("ecds", "ec"), help="its extension configurations", show=_of(_extensions)),
)
