"""What we tell users about their configuration: values with a stable code, never exceptions.

Codes are listed in docs/diagnostics.md and never change their meaning; a retired code stays retired.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from crds.key import ConfigKey

MOST_PROXIES: Final = 3
"""How many proxies a finding names."""


class Severity(Enum):
    """Error: the object (or the named part of it) has no effect. Warning: it has, but likely not the wanted one."""

    ERROR = "error"
    WARNING = "warning"


class Code(Enum):
    """Stable codes. The number never changes its meaning."""

    UNREADABLE = "M0001"  # a file or document is no YAML
    NOT_AN_OBJECT = "M0002"  # a document has no apiVersion, kind or metadata.name
    UNKNOWN_KIND = "M0003"
    UNKNOWN_FIELD = "M0004"
    BAD_VALUE = "M0005"
    MISSING_FIELD = "M0006"
    FILE_TOO_LARGE = "M0007"
    DUPLICATE_OBJECT = "M0008"  # the same object stands in two places; the first by file name serves
    UNWATCHED = "M0009"  # a kind cannot be listed or watched; the objects known of it stay
    UNWRITTEN = "M0010"  # what istiod keeps in the cluster cannot be written, or the Lease for it not be had
    WEIGHT_SUM = "M0101"
    UNKNOWN_SUBSET = "M0102"
    UNKNOWN_HOST = "M0103"
    DUPLICATE_HOST = "M0104"  # two rules claim one host; the oldest serves
    UNKNOWN_GATEWAY = "M0105"
    SHADOWED_ROUTE = "M0106"
    BAD_REGEX = "M0107"
    NOT_SUPPORTED = "M0108"  # a field that is read and has no effect yet
    PORT_CONFLICT = "M0109"
    INEFFECTIVE = "M0110"  # the object is valid and selects nothing
    DUPLICATE_SUBSET = "M0111"
    UNKNOWN_CREDENTIAL = "M0112"
    UNKNOWN_PROVIDER = "M0113"  # a CUSTOM policy's extension provider is not there, or cannot be asked
    KEYS_UNFETCHED = "M0114"  # a token issuer's keys cannot be fetched; the last ones serve, or tokens are refused
    UNKNOWN_DELEGATE = "M0115"
    UNASKED = "M0120"  # Envoy could not be asked about an object under admission
    REFUSED_ALREADY = "M0121"  # Envoy refuses what an object is for without it, too
    UNKEPT = "M0122"  # what proxies refuse, or what serves instead, does not outlive istiod
    WITHHELD = "M0123"  # what proxies had before a refused version lets in more than it does: nobody new gets it
    SECRETS_DENIED = "M0125"  # a proxy's account may not read Secrets, or nobody says whether it may
    OLDER_ENVOY = "M0126"  # what connected proxies do not get, since their Envoy would refuse or ignore it
    UNTRIED_ENVOY = "M0127"  # connected proxies are an Envoy older than all that are tested
    UNSERVED_CREDENTIAL = "M0128"  # a gateway's pod has no socket that serves the credential
    UNREACHED_PATH = "M0129"  # a rule is for a path that no request has any more when proxies look
    NO_NETWORK_GATEWAY = "M0133"  # a network has a gateway without an address
    NOT_ADMITTED = "M0134"  # an API server refuses the object by its webhook; one that is there all the same serves
    UNKNOWN_LOG_PROVIDER = "M0135"  # where access logs should go is not there, or takes none
    UNKNOWN_ATTRIBUTE = "M0136"  # an expression looks at what Envoy does not know, and fails there
    UNTRACED = "M0138"  # where spans should go is not there, or cannot be sent to
    ASKED_WITHOUT = "M0139"  # Envoy was asked about an object under admission as if a stored one were not there
    EXTENSION_CONFIG = "M0144"  # a filter and the configuration that it asks for by name do not find each other
    UNASKED_BOOTSTRAP = "M0145"  # no connected proxy asks for the patches of its bootstrap
    UNRESOLVED_GATEWAY = "M0146"  # the DNS name of a network's gateway cannot be looked up
    NO_FAULT = "M0148"  # a fault says nothing that could be injected
    REJECTED_BY_ENVOY = "M0201"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a file: path as the user gave it, line from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding. ``field`` is a path such as ``spec.http[0].route[1].destination.subset``; "" is the whole object.

    ``position`` is filled in by the source, where that is a file; the compiler below knows keys and fields only.
    ``proxies`` are those that it is about. They come and go, so a line of the log, which is said once, has none.
    """

    code: Code
    severity: Severity
    key: ConfigKey | None
    field: str
    message: str
    position: Position | None = None
    proxies: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The message, with the first few proxies."""
        if not self.proxies:
            return self.message
        more = f" and {len(self.proxies) - MOST_PROXIES} more" if len(self.proxies) > MOST_PROXIES else ""
        return f"{self.message} (on {', '.join(self.proxies[:MOST_PROXIES])}{more})"

    def at(self, position: Position) -> Diagnostic:
        """The same finding with its place in a file."""
        return replace(self, position=position)

    def __str__(self) -> str:
        where = f"{self.position} " if self.position else ""
        return f"{where}{self.code.value} {self.key or '-'} {self.field or '-'}: {self.message}"


def error(code: Code, key: ConfigKey | None, field: str, message: str) -> Diagnostic:
    """A finding that takes effect away from the object or field it names."""
    return Diagnostic(code=code, severity=Severity.ERROR, key=key, field=field, message=message)


def under_admission(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Findings as admission takes them: what an object would not be admitted with is an error."""
    return tuple(replace(one, severity=Severity.ERROR) if one.code is Code.NOT_ADMITTED else one for one in found)


def warning(code: Code, key: ConfigKey | None, field: str, message: str) -> Diagnostic:
    """A finding that leaves the object in effect."""
    return Diagnostic(code=code, severity=Severity.WARNING, key=key, field=field, message=message)
