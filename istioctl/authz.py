"""``istioctl experimental authz check`` (``x authz check``): the AuthorizationPolicies that one Envoy enforces."""

from __future__ import annotations

import argparse
from typing import Any

from istioctl import dump, options, output
from istioctl.views import authorizations

_PADDING = 3


def register(subparsers: Any) -> None:
    """Add the command below ``experimental``."""
    authz = subparsers.add_parser("authz", parents=[options.shared()], help="AuthorizationPolicies", allow_abbrev=False)
    check = authz.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "check", parents=[options.shared()], help="the policies that hold for a pod", allow_abbrev=False
    )
    check.add_argument("pod", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
    check.add_argument("-f", "--file", default="", help="a saved dump of Envoy instead of a pod; - is standard input")
    check.add_argument("--admin-address", default="", metavar="HOST:PORT", help="Envoy's admin interface here")
    check.set_defaults(run=_check)


def _check(given: argparse.Namespace) -> int:
    admin = options.admins(given, given.pod)[0]
    with dump.legible(given.file):
        rows = authorizations.rows(dump.parse(admin.ask("/config_dump"), admin.name).listeners())
    output.say(output.table(authorizations.HEADER, rows, _PADDING, colour=output.is_terminal()))
    return 0
