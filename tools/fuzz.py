"""Coverage-guided fuzzing of the parsers of outside input, by atheris (libFuzzer).

``python -m tools.fuzz SECONDS [TARGET ...]`` gives each target so many seconds, one after the other (``make fuzz``).
What makes a target fail is a file in build/fuzz/TARGET, and the exit status is 1. Once mended, the file moves to
tests/fuzz/cases/TARGET. What the inputs have reached so far is kept in build/fuzz/corpus.
"""

from __future__ import annotations

import os
import pathlib
import random
import sys
from collections.abc import Sequence
from typing import Any, Final

import atheris

PRODUCT: Final = ["crds", "wire", "istiod", "webhook", "agent", "istioctl", "node"]
FOLDER: Final = pathlib.Path("build/fuzz")
MEMORY: Final = 2048
"""MiB above which an input counts as a failure."""


def main(seconds: str, names: Sequence[str]) -> int:
    """Fuzz targets, each in a process of its own that is forked once everything is instrumented; gives the status."""
    with atheris.instrument_imports(include=PRODUCT):
        from tests.fuzz import target as fuzzing  # noqa: PLC0415 (instrumented as it is imported)
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 (as above)
    failed = []
    for name in names or TARGETS:
        print(f"== {name}", flush=True)
        child = os.fork()
        if not child:
            fuzz(TARGETS[name], seconds, fuzzing)
        if os.waitpid(child, 0)[1]:
            failed.append(name)
    print(f"failed: {' '.join(failed)}; see {FOLDER}" if failed else "no target failed")
    return bool(failed)


def fuzz(chosen: Any, seconds: str, fuzzing: Any) -> None:
    """Fuzz one target; ends the process."""
    fuzzing.quiet()
    corpus, found = FOLDER / "corpus" / chosen.name, FOLDER / chosen.name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate((*chosen.seeds, *(case.read_bytes() for case in chosen.cases()))):
        (corpus / f"seed-{number}").write_bytes(raw)

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        """Half of the time ours, which knows words of many formats, else libFuzzer's."""
        if seed % 2:
            return bytes(fuzzing.mutated((data, *chosen.seeds), random.Random(seed))[:largest])  # noqa: S311 (reproducible)
        return bytes(atheris.Mutate(data, largest))

    options = {
        "max_total_time": seconds,
        "max_len": fuzzing.LARGEST,
        "rss_limit_mb": MEMORY,
        "timeout": 60,
        "artifact_prefix": f"{found}/",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    said = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *said, str(corpus)], chosen.judge, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
