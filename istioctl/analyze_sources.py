"""What ``istioctl analyze`` looks at: objects of files, of a cluster, or of files in front of those of a cluster."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from crds import text
from istioctl import options, output, texts
from istioctl.errors import CommandError
from istiod.analysis import defaults, documents, fields, kinds, live
from istiod.analysis.kinds import Kind
from istiod.analysis.resources import Collection, Resource, template
from istiod.watch import tree

_DEFAULT: Final = "default"
_SECRETS: Final = (("fieldSelector", live.SECRETS),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The objects; the namespace whose messages are wanted ("" is all); documents that are no objects."""

    collection: Collection
    namespace: str
    live: bool
    problems: tuple[str, ...] = ()


def gather(given: argparse.Namespace) -> Source:
    """What the flags ask for.

    Raises:
        CommandError: a file or the cluster cannot be read, or nothing is named.
    """
    contents = list(_contents(given))
    cluster = _cluster(given)
    if cluster is None and not given.files:
        raise CommandError("at least one file and/or a Kubernetes cluster must be given")
    home = given.namespace or (cluster.namespace if cluster is not None else _DEFAULT)
    read = documents.read(contents, home)
    found = [each for each in read.resources if not live.of_system(each)]
    there = list(_objects(cluster, given)) if cluster is not None else []
    mesh, networks = _mesh(given, [*found, *there])
    if cluster is None:
        found += defaults.resources(mesh, given.istioNamespace)
    resolves: Callable[[str], bool] = _resolves if cluster is not None else lambda _: True
    pods = [pod for each in found if (pod := template(each)) is not None]
    collection = Collection(
        [*found, *there], templates=pods, mesh=mesh, networks=networks, resolves=resolves, now=datetime.now(UTC)
    )
    wanted = "" if given.all_namespaces or (cluster is None and not given.namespace) else home
    return Source(collection=collection, namespace=wanted, live=cluster is not None, problems=read.problems)


def _contents(given: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for name in given.files:
        if name == texts.STDIN:
            if sys.stdin.isatty() and given.output == "log":
                output.say("Reading from stdin:")
            yield name, texts.read(name)
            continue
        try:
            paths = _paths(Path(name), recursive=given.recursive)
        except OSError as error:
            raise CommandError(f"{error.filename or name}: {error.strerror}") from error
        for path in paths:
            if path.suffix in tree.SUFFIXES:
                yield str(path), texts.read(str(path))
            else:
                known = ", ".join(sorted(tree.SUFFIXES))
                sys.stderr.write(f"Skipping file {path}, recognized file extensions are: {known}\n")


def _paths(path: Path, *, recursive: bool) -> list[Path]:
    """A file, or the files of a folder by name.

    Raises:
        CommandError: there is none.
    """
    if not path.exists():
        raise CommandError(f"{path}: no such file or directory")
    if not path.is_dir():
        return [path]
    return sorted(each for each in (path.rglob("*") if recursive else path.iterdir()) if each.is_file())


def _cluster(given: argparse.Namespace) -> Any:
    """The cluster; None where it is not wanted, or nobody asked for it and there is none.

    Without ``--use-kube`` files are analysed in front of the cluster, as in Istio, if a kubeconfig names one.
    """
    if given.use_kube is False:
        return None
    if given.use_kube is None and given.files and not _is_configured(given):
        output.complain("no kubeconfig: the files are analysed without a cluster", "Note")
        return None
    try:
        return options.cluster(given)
    except CommandError as error:
        if given.files:
            raise
        raise CommandError(f"{error}; files need none: istioctl analyze FILE ...") from error


def _is_configured(given: argparse.Namespace) -> bool:
    files = os.environ.get("KUBECONFIG", str(Path("~/.kube/config").expanduser())).split(os.pathsep)
    named = given.kubeconfig or given.context or os.environ.get("KUBERNETES_SERVICE_HOST")
    return bool(named) or any(Path(each).exists() for each in files if each)


def _objects(cluster: Any, given: argparse.Namespace) -> Iterator[Resource]:
    """Everything of the cluster that some analyzer looks at.

    Raises:
        CommandError: a kind cannot be listed, or it takes longer than ``--timeout``.
    """
    deadline = time.monotonic() + given.timeout
    for kind in kinds.SERVED:
        query: tuple[tuple[str, str], ...] = _SECRETS if kind == kinds.SECRET else ()
        for item in cluster.listed(_path(kind, given), f"{kind.name}s", query):
            if time.monotonic() > deadline:
                raise CommandError(f"reading the cluster took longer than {given.timeout:g} s (--timeout)")
            if (found := live.concerning(kind, item, given.revision)) is not None:
                yield found


def _path(kind: Kind, given: argparse.Namespace) -> str:
    version, _, plural = kinds.SERVED[kind].partition("/")
    base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    if kind == kinds.CONFIG_MAP:  # the mesh's own: users' are none of our business, and may be large
        return f"{base}/namespaces/{given.istioNamespace}/{plural}"
    return f"{base}/{plural}"


def _mesh(given: argparse.Namespace, found: list[Resource]) -> tuple[fields.Record, fields.Record]:
    """Mesh configuration and networks: of the file, else of the ConfigMap among the objects.

    Raises:
        CommandError: the file cannot be read.
    """
    name, data = live.config_map(found, given.istioNamespace, given.revision)
    said = dict(data)
    if given.meshConfigFile:
        said["mesh"] = texts.read(given.meshConfigFile)
    try:
        return live.settings(said, given.istioNamespace)
    except text.UnreadableError as problem:
        where = given.meshConfigFile or f"ConfigMap {given.istioNamespace}/{name}"
        raise CommandError(f"{where}: mesh configuration: {problem}") from problem


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False
