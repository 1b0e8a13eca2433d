"""Istio's metrics from Envoy's: names, and labels as ``wire.labels`` has them (features rows Q1, Q2; decision 43).

Works on whole lines of Prometheus' text format as Envoy writes them, block by block, and keeps nothing from one scrape
to the next. Whom they are asked of stays with agent.scrape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from wire import exposition, labels

_RENAMED: Final = (
    (b"\nenvoy_istio_", b"\nistio_"),
    (b"\n# TYPE envoy_istio_", b"\n# TYPE istio_"),
    (b"\n# HELP envoy_istio_", b"\n# HELP istio_"),
)
_SIGN: Final = f'{labels.REPORTER}="'.encode()
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)')
_BUCKET: Final = b',le="'
"""Before a bucket's bound, the last label; in a value the quote would be escaped."""
_NUMBER: Final = re.compile(rb"[+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|Inf|NaN)")
_COMMENT: Final = b"# "
"""How a family begins."""
_ESCAPED: Final = re.compile(r"\\(.)")
_PLAIN: Final = {"n": "\n"}


@dataclass(frozen=True, slots=True)
class _Labels:
    """As Prometheus reads them; ``summed``: several of Envoy's series may have them."""

    labels: bytes
    summed: bool


class Series:
    """One scrape. ``own`` is what is known of this workload, by ``wire.telemetry.PARTS``."""

    def __init__(self, own: Mapping[str, str]) -> None:
        self._own = own
        self._known: dict[bytes, _Labels] = {}
        self._sums: dict[tuple[bytes, bytes, bytes], float] = {}

    def lines(self, block: bytes) -> bytes:
        """Whole lines of Envoy's as Istio's."""
        text = b"\n" + block
        for old, new in _RENAMED:
            text = text.replace(old, new)
        text = text[1:]
        if _SIGN not in text and not self._sums:
            return text
        return b"".join(self._written(text))

    def rest(self) -> bytes:
        """What is left when Envoy has said all."""
        found = b"".join(
            b"%s{%s%s} %s\n" % (name, said, bucket, exposition.number(value).encode())
            for (name, said, bucket), value in self._sums.items()
        )
        self._sums.clear()
        return found

    def _written(self, text: bytes) -> Iterator[bytes]:
        """Sums are written where their family ends, since its lines have to stand together."""
        for line in text[:-1].split(b"\n"):
            if line.startswith(_COMMENT):
                yield self.rest()
            yield self._line(line) if _SIGN in line else line + b"\n"

    def _line(self, line: bytes) -> bytes:
        name, _, rest = line.partition(b"{")
        said, end, value = rest.rpartition(b"} ")
        at = said.rfind(_BUCKET)
        short, bucket = (said, b"") if at < 0 else (said[:at], said[at:])
        known = self._known.get(short) or self._learn(short)
        if not end or known is None or not _NUMBER.fullmatch(value):
            return line + b"\n"
        if not known.summed:
            return b"%s{%s%s} %s\n" % (name, known.labels, bucket, value)
        key = (name, known.labels, bucket)
        self._sums[key] = self._sums.get(key, 0.0) + float(value)
        return b""

    def _learn(self, short: bytes) -> _Labels | None:
        text = short.decode(errors="replace")
        found = {each[1]: _unescaped(each[2]) for each in _LABEL.finditer(text)}
        if sum(len(each[0]) for each in _LABEL.finditer(text)) != len(text):
            return None
        made = exposition.labels(labels.long(found, self._own)).encode()
        self._known[short] = known = _Labels(made, summed=labels.is_summed(found))
        return known


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: _PLAIN.get(found[1], found[1]), value)
