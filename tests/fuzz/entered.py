"""Which functions of the product a call enters."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType

from tests.fuzz.decoders import ROOT, Place


@contextlib.contextmanager
def entered() -> Iterator[set[Place]]:
    """The functions that were entered meanwhile, in all threads that began meanwhile."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            codes.add(frame.f_code)

    places: set[Place] = set()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield places
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        top = f"{ROOT}/"
        for code in codes:
            if code.co_filename.startswith(top):
                name = str(pathlib.Path(code.co_filename).relative_to(ROOT))
                # what stands in a comprehension or a lambda belongs to the function around it
                places.add((name, code.co_qualname.partition(".<locals>.<")[0]))
