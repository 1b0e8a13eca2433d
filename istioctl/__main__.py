"""Looks at a mesh, with the commands that users of Istio know. Each is a module with ``register(subparsers)``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from istioctl import (
    absent,
    admin,
    analyze,
    authz,
    ca,
    completion,
    dashboard,
    defaults,
    describe,
    envoy_stats,
    injection,
    internal_debug,
    kube_inject,
    metrics,
    options,
    output,
    proxy_config,
    proxy_status,
    validate,
    version,
    wait,
)
from istioctl.bugreport import command as bugreport
from istioctl.diff import command as diff
from istioctl.errors import INTERRUPTED, CommandError
from istioctl.explain import command as explain
from istioctl.tag import command as tag
from istioctl.testing import command as testing

_ABOUT = "Looks at a mesh, with the commands that users of Istio know. What each is good for: docs/looking.md."


def parser() -> argparse.ArgumentParser:
    """All commands."""
    parents = [options.shared(inherited=False)]
    top = argparse.ArgumentParser(prog="istioctl", description=_ABOUT, parents=parents, allow_abbrev=False)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for module in (
        analyze,
        proxy_status,
        proxy_config,
        explain,
        diff,
        testing,
        validate,
        kube_inject,
        dashboard,
        version,
        wait,
        tag,
        completion,
        admin,
        bugreport,
    ):
        module.register(commands)
    tried = commands.add_parser(
        "experimental",
        aliases=["x", "exp"],  # the short form is what users type
        parents=[options.shared()],
        help="commands that may change",
        allow_abbrev=False,
    ).add_subparsers(required=True, metavar="COMMAND")
    for one in (authz, ca, defaults, describe, envoy_stats, injection, internal_debug, metrics, wait):
        one.register(tried)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 1 with one line on standard error, or what Ctrl-C makes of programs."""
    words = options.spelled(sys.argv[1:] if arguments is None else arguments)
    if told := absent.advice(words):
        output.complain(told)
        return 1
    try:
        found = parser()
        completion.answer(found)
        given = found.parse_args(words)
        code: int = given.run(given)
    except CommandError as error:
        output.complain(str(error))
        return 1
    except BrokenPipeError:  # | head
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
