"""What an analyzer is: a pure function from all objects to findings, with the name and words that ``-L`` lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from istiod.analysis.message import Message
from istiod.analysis.resources import Collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyzer:
    """One analyzer. Those that Istio leaves out of its usual set, because of their noise, are not ``usual``."""

    name: str
    description: str
    run: Callable[[Collection], Iterable[Message]]
    usual: bool = True
