"""YAML for tests of the analysis, and what comes of it."""

from __future__ import annotations

import textwrap

from istiod.analysis import analyzers, documents
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, template

MESH = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: shop, labels: {istio-injection: enabled}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: reviews, namespace: shop}
    spec:
      selector: {app: reviews}
      ports: [{port: 9080, name: http}]
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: reviews, namespace: shop}
    spec:
      selector: {matchLabels: {app: reviews}}
      template:
        metadata: {labels: {app: reviews, version: v1}}
        spec:
          serviceAccountName: reviews
          containers: [{name: app, image: app}]
    """


def analyse(*files: str, mesh: dict[str, object] | None = None) -> list[Message]:
    """The findings about files of these texts, which are called 0.yaml, 1.yaml and so on."""
    texts = [(f"{number}.yaml", textwrap.dedent(content)) for number, content in enumerate(files)]
    read = documents.read(texts, "default")
    pods = [pod for each in read.resources if (pod := template(each)) is not None]
    return analyzers.run(analyzers.usual(), Collection(read.resources, templates=pods, mesh=mesh or {}))


def said(*files: str, mesh: dict[str, object] | None = None) -> list[tuple[str, str]]:
    """Code and object of each finding that is no mere information."""
    return [(each.type.code, each.origin) for each in analyse(*files, mesh=mesh) if str(each.type.level) != "Info"]
