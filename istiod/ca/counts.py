"""What the certificate service counts, under Istio's names (features row D20)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from wire.exposition import Family, Sample, family, of


@dataclass(slots=True)
class Counts:
    """The counters of one process. ``refused`` is by Istio's word for why a CSR was not signed."""

    requests: int = 0
    unauthenticated: int = 0
    unreadable: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    issued: int = 0

    def families(self) -> Iterator[Family]:
        """All of them, for the text of a scrape."""
        for name, text, value in (
            ("csr_count", "CSRs received.", self.requests),
            ("authentication_failure_count", "Callers that proved no identity.", self.unauthenticated),
            ("csr_parsing_err_count", "CSRs that could not be read.", self.unreadable),
            ("id_extraction_err_count", "Always 0: identities are never taken from a CSR.", 0),
            ("success_cert_issuance_count", "Certificates issued.", self.issued),
        ):
            yield of(f"citadel_server_{name}", "counter", text, value)
        refused = (Sample(value=count, labels={"error": kind}) for kind, count in sorted(self.refused.items()))
        yield family("citadel_server_csr_sign_err_count", "counter", "CSRs that were not signed.", *refused)
