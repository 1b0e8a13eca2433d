"""What a peak of large responses leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from istiod.__main__ import give_memory_back
if sys.argv[1] == "give back":
    give_memory_back()
kept = []
for _ in range(2):  # at the second time glibc has learned from the first
    large = []
    for _ in range(100):
        large.append(b"x" * 600_000)
        kept.append(b"y" * 100_000)
    del large
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_peak_of_large_responses_is_given_back() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def resident(how: str) -> int:
        command = [sys.executable, "-c", _PROGRAM, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return int(done.stdout)

    assert resident("give back") < resident("keep") - 40_000
