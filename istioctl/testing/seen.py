"""What came of a request: the one form in which both engines say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from istioctl.testing.spec import Case, Place
from istiod.config.origin import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """Names in lower case. ``unknown`` are those whose value, and whether they are there, cannot be said."""

    values: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    certain: bool = False
    """Somebody looked: what is not among them was not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """The request as the app got it."""

    host: str
    path: str
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of a part of the requests, in percent. ``status`` 0: there is none, as for TCP.

    ``workload`` is NAME.NAMESPACE of the app that was reached; "" with ``left``: a place outside of the mesh.
    ``by`` are the objects that refused it, or without which nothing let it in. None, there and in other fields: the
    engine cannot tell.
    """

    share: float
    text: str
    status: int = 0
    workload: str = ""
    left: bool = False
    service: str = ""
    subset: str = ""
    closed: bool = False
    denied: bool | None = False
    by: tuple[Origin, ...] | None = ()
    no_route: bool = False
    location: str = ""
    arrived: Arrived | None = None
    returned: Headers = field(default_factory=Headers)
    rules: tuple[Origin, ...] = ()
    lost: tuple[tuple[Origin, str], ...] = ()
    """Rules that were looked at and did not decide, each with the reason."""
    timeout: float | None = None
    retries: int | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All of it. ``sample`` is how many requests were sent; 0: none, shares are exact.

    ``skipped`` says why nothing was done.
    """

    endings: tuple[Ending, ...] = ()
    sample: int = 0
    skipped: str = ""
    tells: frozenset[str] | None = None
    """The kinds of rules that the engine sees decide; None: all."""
    seconds: float | None = None
    """How long a request took; None: nobody sent any."""
    hint: str = ""
    """How to look closer."""


class Engine(Protocol):
    """What answers tests."""

    def see(self, case: Case) -> Seen:
        """What comes of a test's request.

        Raises:
            CommandError: the test names what the mesh does not have.
        """
        ...

    def holds(self, place: Place, ending: Ending) -> bool:
        """Whether a request that ended so has reached a place."""
        ...

    def cause(self, origin: Origin) -> str:
        """An object and field, with file and line."""
        ...
