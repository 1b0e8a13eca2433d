"""What proxies refuse, put together: the quarantine, what is kept of it over restarts, and what users are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from crds.key import ConfigKey
from crds.meta import Object
from istiod.ads.quarantine import Quarantine, Rejection
from istiod.ads.server import AdsService
from istiod.ads.session import Shared
from istiod.config.protocols import Records
from istiod.config.resource import Resource
from istiod.envoy import blame, protection
from istiod.lastgood.keeper import Keeper, View
from istiod.source import Report

PERIOD: Final = 1.0
"""Seconds between two looks at what proxies refuse, while they refuse something."""


class Refusals:
    """Of one process; made inside the event loop. ``shared`` is for its AdsService.

    ``find`` gives an object, ``report`` takes all findings about refusals.
    """

    def __init__(
        self,
        records: Records | None,
        find: Callable[[ConfigKey], Object | None],
        report: Report,
    ) -> None:
        quarantine = Quarantine(safe=protection.kept)
        self.shared = Shared(quarantine=quarantine)
        self._records = records
        self._report = report
        self._ads: AdsService | None = None
        self._noted = asyncio.Event()
        self._begun = asyncio.Event()
        view = View(
            ready=self._begun.is_set,
            wants=self._wants,
            find=find,
            origins=blame.origins,
            clock=time.monotonic,
            now=time.time,
        )
        self._keeper = None if records is None else Keeper(quarantine, records, view, self.note)

    def begin(self) -> None:
        """All objects have been read."""
        self._begun.set()

    def note(self) -> None:
        """Somebody refused something."""
        self._noted.set()

    async def load(self) -> None:
        """Take what was refused before a restart, so that the first proxy gets what serves instead.

        Raises:
            SettingsError: it can never be read as the settings are.
        """
        if self._records is not None and self._keeper is not None:
            await self._records.load()
            self._keeper.take()
            self.note()

    async def keep(self) -> None:
        """Keep it until cancelled."""
        if self._records is not None and self._keeper is not None:
            await self._records.run(self._keeper.due)

    def serve(self, ads: AdsService) -> None:
        """This service has the proxies."""
        self._ads = ads

    def current(self) -> tuple[Rejection, ...]:
        """What is refused of what proxies should have."""
        if self._ads is None:
            return ()
        return self._ads.rejections(self._keeper.standing) if self._keeper is not None else self._ads.rejections()

    async def tell(self) -> None:
        """Keep the findings; looks only while there are any."""
        await self._noted.wait()
        self._noted.clear()
        await self._begun.wait()
        while rejections := self.current():
            found = [finding for rejection in rejections for finding in told(rejection)]
            self._report((*found, *self._unkept()))
            await asyncio.sleep(PERIOD)
        self._report(self._unkept())

    def _wants(self, resource: Resource) -> bool:
        return self._ads is not None and self._ads.wants(resource)

    def _unkept(self) -> tuple[Diagnostic, ...]:
        return () if self._keeper is None else self._keeper.findings()


def told(rejection: Rejection) -> Iterator[Diagnostic]:
    """What the owners of the objects of a refused resource are told."""
    refused = rejection.resource
    found = blame.findings(refused, rejection.error, rejection.proxies, rejection.origins)
    yield from found
    if rejection.withheld:
        kind = refused.type_url.rpartition(".")[2]
        message = (
            f"the version of {kind} {refused.name} before has other rules of access: proxies that start have neither"
        )
        for each in found:
            yield diagnostic.error(Code.WITHHELD, each.key, each.field, message)
