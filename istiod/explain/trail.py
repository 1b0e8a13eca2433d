"""What is noted on the way of a call through one proxy, until it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from istiod.config.origin import Origin
from istiod.explain.answer import Answer, End, Lost, Stage, Step


@dataclass(slots=True, eq=False)
class Trail:
    """The steps so far, what could not be told, and Envoy's names of what was chosen."""

    steps: list[Step] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    aborts: tuple[float, int] | None = None
    """The percent that an injected fault ends, and its status."""

    def note(
        self, stage: Stage, name: str, text: str = "", *, origin: Origin | None = None, lost: tuple[Lost, ...] = ()
    ) -> None:
        """One more step."""
        self.steps.append(Step(stage=stage, name=name, text=text, origin=origin, lost=lost))

    def doubt(self, text: str) -> None:
        """Something that could not be told."""
        if text not in self.doubts:
            self.doubts.append(text)

    def closed(self, detail: str) -> Answer:
        """The connection ends here."""
        return self._ended(End.CLOSE, 0, detail)

    def answered(self, status: int, detail: str, location: str = "") -> Answer:
        """The proxy itself answers."""
        return self._ended(End.ANSWER, status, detail, location)

    def undecided(self, detail: str) -> Answer:
        """Nobody knows how it goes on."""
        self.doubt(detail)
        return self._ended(End.UNDECIDED, 0, detail)

    def _ended(self, end: End, status: int, detail: str, location: str = "") -> Answer:
        return Answer(
            end=end,
            steps=tuple(self.steps),
            status=status,
            detail=detail,
            location=location,
            doubts=tuple(self.doubts),
            facts=dict(self.facts),
            aborts=self.aborts,
        )
