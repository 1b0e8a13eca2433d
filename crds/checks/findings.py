"""Where the checks of one object put what they find."""

from __future__ import annotations

from datetime import timedelta

from crds import diagnostic
from crds.checks.values import ZERO, duration
from crds.diagnostic import Code, Diagnostic
from crds.key import ConfigKey


class Findings:
    """Findings about one object, in the order in which they were found."""

    def __init__(self, key: ConfigKey) -> None:
        self.key = key
        self._found: list[Diagnostic] = []

    def error(self, field: str, message: str, code: Code = Code.BAD_VALUE) -> None:
        """Something that Istio's validation rejects the object for."""
        self._found.append(diagnostic.error(code, self.key, field, message))

    def warning(self, field: str, message: str, code: Code = Code.BAD_VALUE) -> None:
        """Something that is accepted and likely not meant."""
        self._found.append(diagnostic.warning(code, self.key, field, message))

    def refuse(self, field: str, problem: str | None) -> None:
        """Where there is a problem: something that Istio's validation rejects, and that can be used as it stands."""
        if problem is not None:
            self.warning(field, problem, Code.NOT_ADMITTED)

    def lasts(self, field: str, value: timedelta | None) -> None:
        """A duration that an API server admits from a millisecond on; 0 means for ever, where somebody has it."""
        if value == ZERO:
            self.refuse(field, "must be at least 0.001s")
        else:
            self.check(field, duration(value))

    def missing(self, field: str) -> None:
        """A field that must be given."""
        self.error(field, "must be given", Code.MISSING_FIELD)

    def check(self, field: str, problem: str | None) -> None:
        """An error where there is a problem."""
        if problem is not None:
            self.error(field, problem)

    def all(self) -> tuple[Diagnostic, ...]:
        """Everything found."""
        return tuple(self._found)
