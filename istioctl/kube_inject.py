"""``istioctl kube-inject``: workloads with their sidecars, as the webhook would make them (features S18, S19, A24)."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crds.diagnostic import Diagnostic, Severity
from istioctl import options, texts
from istioctl.errors import CommandError
from webhook import documents, values


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What was found of the injector's settings."""

    texts: values.Texts
    kubelets: tuple[str, ...] = ()
    namespace: str = "default"
    annotations: Callable[[str], Mapping[str, str]] = lambda _: {}


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "kube-inject",
        parents=[options.shared()],
        help="add the sidecar to the pods of a file",
        description="Adds to each workload of a file what the webhook would add to its pods. Settings come from the "
        "cluster's ConfigMaps, or from files.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-f", "--filename", required=True, metavar="FILE", help="Kubernetes objects; - is the standard input")
    add("-o", "--output", default="", metavar="FILE", help="where the result goes, instead of the standard output")
    add("--injectConfigFile", default="", metavar="FILE", help="key config of the injector's ConfigMap")
    add("--valuesFile", default="", metavar="FILE", help="key values of the injector's ConfigMap")
    add("--meshConfigFile", default="", metavar="FILE", help="key mesh of the mesh's ConfigMap")
    add("--injectConfigMapName", default="", metavar="NAME", help="default: istio-sidecar-injector of the revision")
    add("--meshConfigMapName", default="", metavar="NAME", help="default: istio of the revision")
    add("-r", "--revision", default="", help="control plane whose settings are used")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    name = "standard input" if given.filename == texts.STDIN else given.filename
    content = texts.read(given.filename)
    known = _known(given)
    around = values.Surroundings(revision=given.revision or "default", kubelets=known.kubelets)
    found = values.from_values(known.texts, around, given.istioNamespace)
    for each in found.diagnostics:
        _remark(_said(each))
    if found.config is None:
        raise CommandError("the injector's settings cannot be read")
    target = documents.Target(config=found.config, namespace=known.namespace, annotations=known.annotations)
    try:
        made = documents.inject_all(name, content, target)
    except documents.DocumentError as problem:
        raise CommandError(str(problem)) from problem
    for remark in made.remarks:
        _remark(remark)
    _write(given.output, made.text)
    return 0


def _known(given: argparse.Namespace) -> _Known:
    """The settings of the files, and what is missing in them of the cluster.

    Raises:
        CommandError: a file cannot be read, or there is no cluster with what is missing.
    """
    config, chart, mesh = (
        texts.read(path) if path else None for path in (given.injectConfigFile, given.valuesFile, given.meshConfigFile)
    )
    if chart is not None and mesh is not None:  # the configuration is made of the values
        return _Known(
            texts=values.Texts(values=chart, mesh=mesh, config=config or ""), namespace=given.namespace or "default"
        )
    where = options.cluster(given)
    injector: Mapping[str, str] = {}
    if chart is None or config is None:
        injector = where.config_map(given.injectConfigMapName or values.injector_name(given.revision))
    if mesh is None:
        mesh = where.config_map(given.meshConfigMapName or values.mesh_name(given.revision)).get("mesh", "")
    return _Known(
        texts=values.Texts(
            values=injector.get("values", "") if chart is None else chart,
            config=injector.get("config", "") if config is None else config,
            mesh=mesh,
        ),
        kubelets=where.kubelets(),
        namespace=where.namespace,
        annotations=functools.cache(where.annotations),
    )


def _write(path: str, text: str) -> None:
    if not path:
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _said(each: Diagnostic) -> str:
    return f"{'error' if each.severity is Severity.ERROR else 'warning'}: {each}"


def _remark(line: str) -> None:
    """What a person should know goes to the standard error: the output is piped into kubectl."""
    sys.stderr.write(f"{line}\n")
