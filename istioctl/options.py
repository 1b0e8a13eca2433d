"""Flags that commands share, and what they open: a cluster, an Envoy, a control plane."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from crds import duration
from istioctl import defaults, output, reach
from istioctl.errors import CommandError
from wire import names

_TRUTHS: Final = (
    *("--remote", "--short", "--verbose", "--all-namespaces", "--color", "--ignore-unknown", "--list-analyzers"),
    *("--all", "--browser", "--multi-cluster", "--recursive", "--use-kube", "--ignoreUnmeshed", "--envoy"),
    *("--overwrite", "--auto-inject-namespaces", "--skip-confirmation"),
    *("--full-secrets", "--dry-run"),
)
"""Flags made by ``add_truth``."""
_SHORT: Final = {"version": ("-s",), "analyze": ("-A", "-L", "-R", "-k", "-v"), "tag": ("-y",)}
"""Those of single commands that have one letter."""


def shared(*, inherited: bool = True) -> argparse.ArgumentParser:
    """The flags of every command that looks at a cluster, as a parent parser.

    They may stand before and after the command's name: where they are ``inherited``, what stands before holds.

    Raises:
        CommandError: the user's file of defaults cannot be read.
    """

    def default(text: str) -> str:
        return argparse.SUPPRESS if inherited else text

    root = "" if inherited else defaults.value_of(defaults.ISTIO_NAMESPACE)
    parent = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = parent.add_argument
    add("-c", "--kubeconfig", default=default(""), help="Kubernetes configuration file")
    add("--context", default=default(""), help="the context of the kubeconfig to use")
    add("-n", "--namespace", default=default(""), help="namespace of the pod")
    add("-i", "--istioNamespace", default=default(root), help="namespace of the control plane")
    return parent


def truth(text: str) -> bool:
    """A flag's value as in Go: ``--flag``, ``--flag=true`` or ``--flag=false``.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1", "t")


def seconds(text: str) -> float:
    """The seconds of a duration in Go's form, such as 1m30s.

    Raises:
        argparse.ArgumentTypeError: it is none, or negative.
    """
    try:
        found = duration.parse(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if found < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return found


def add_truth(parser: argparse.ArgumentParser, *flags: str, default: bool | None, text: str) -> None:
    """A flag that is true, false, or just there; it has to be among those that ``spelled`` knows."""
    parser.add_argument(*flags, type=truth, default=default, metavar="true|false", help=text)


def spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments with each ``--flag`` that is true or false as ``--flag=true``.

    In Go such a flag has a value only behind ``=``: what stands after it alone is a pod. argparse would take it.
    """
    command = next((each for each in arguments if each in _SHORT), "")
    flags = (*_TRUTHS, *_SHORT.get(command, ()))
    return [f"{each}=true" if each in flags else each for each in arguments]


def add_output(parser: argparse.ArgumentParser, default: str = "short") -> None:
    """The flag ``-o``."""
    parser.add_argument("-o", "--output", choices=output.FORMATS, default=default, help=f"default: {default}")


def cluster(options: argparse.Namespace) -> Any:
    """The cluster that the flags name, an ``istioctl.cluster.Cluster``.

    Raises:
        CommandError: there is none.
    """
    from istioctl import cluster as kubernetes  # noqa: PLC0415 (0.5 s that commands on files and addresses need not pay)

    return kubernetes.Cluster(
        kubernetes.Options(
            kubeconfig=options.kubeconfig,
            context=options.context,
            namespace=options.namespace,
            istio_namespace=options.istioNamespace,
        )
    )


def admins(options: argparse.Namespace, pod: str) -> list[reach.Admin]:
    """The Envoys that flags and argument name: a file, an address, or pods of the cluster.

    Raises:
        CommandError: none is named, or it does not exist.
    """
    if options.file:
        return [reach.File(options.file)]
    if options.admin_address:
        return [reach.Address(options.admin_address)]
    if not pod:
        raise CommandError("name a pod, or a configuration dump with --file")
    try:
        where = cluster(options)
    except CommandError as error:
        raise CommandError(f"{error}; a dump is read with --file, an Envoy elsewhere with --admin-address") from error
    return [where.admin(each) for each in where.pods(pod)]


def control_planes(options: argparse.Namespace) -> list[reach.Address]:
    """The monitoring ports of all replicas of istiod: of the addresses given, else of the cluster's pods.

    Raises:
        CommandError: there is none.
    """
    if options.monitoring_address:
        return [reach.Address(each) for each in options.monitoring_address]
    try:
        where = cluster(options)
    except CommandError as error:
        raise CommandError(f"{error}; an istiod elsewhere is asked with --monitoring-address HOST:PORT") from error
    return [where.page(each, names.DEBUG_PORT) for each in where.istiods(options.revision)]


def add_control_plane(parser: argparse.ArgumentParser) -> None:
    """The flags that say which replicas of istiod."""
    parser.add_argument("-r", "--revision", default="", help="only control planes of this revision")
    parser.add_argument(
        "--monitoring-address",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="ask istiod's monitoring port here instead of in a cluster; may stand several times",
    )
