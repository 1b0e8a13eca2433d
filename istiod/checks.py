"""What is found out about the process and its proxies, beside what the mesh itself finds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from istiod.envoy import lacking
from istiod.mesh import mesh_config, unasked_bootstraps, unserved
from istiod.mesh.context import MeshContext
from istiod.pipeline import Pipeline
from istiod.settings import Settings
from istiod.source import Report

METADATA_PERIOD: Final = 2.0
"""Seconds between two looks at the metadata of connected proxies."""
OLDER_PERIOD: Final = 5.0
"""Seconds between two looks at which Envoy connected proxies are; of new ones that is all that is looked at."""


def trust_domain(settings: Settings, issued: str, context: MeshContext | None) -> Iterator[Diagnostic]:
    """A finding where the mesh's settings name another trust domain than ``issued``, the one of the CA's identities."""
    if context is None or not (settings.ca_address or settings.mtls_address):
        return
    if (named := context.model.settings.trust_domain) != issued:
        cure = "istiod has to be restarted" if settings.kubernetes else "see --trustDomain"
        message = f"trustDomain {named} is not {issued}, which the CA issues ({cure}): mTLS fails"
        yield diagnostic.error(Code.BAD_VALUE, settings.cluster.mesh_config, mesh_config.FIELD, message)


async def older_envoys(pipeline: Pipeline, report: Report) -> None:
    """Keep the findings about proxies that are an older Envoy: they come without a change of the mesh."""
    while True:
        report(tuple(lacking.findings(pipeline.targets)))
        await asyncio.sleep(OLDER_PERIOD)


async def metadata(pipeline: Pipeline, report: Report) -> None:
    """Keep the findings about what proxies say of themselves: they come without a change of the mesh."""
    while True:
        if (context := pipeline.context) is not None:
            several = (unserved.findings, unasked_bootstraps.findings)
            report(tuple(each for find in several for each in find(context, pipeline.proxies)))
        await asyncio.sleep(METADATA_PERIOD)
