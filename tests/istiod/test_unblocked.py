"""A log that nobody reads stops nobody (FT60)."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from bench import processes
from istiod import unblocked
from istiod.unblocked import Unblocked
from tests import figures
from tests.waiting import until

BAD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}-{number}, namespace: default}}
spec: {{hosts: ["a{number}.example"], http: [{{route: [{{destination: {{host: none}}, weight: much}}]}}]}}
---
"""
EACH = 200
"""Bad objects at once."""


class Reader:
    """Takes texts once ``open`` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.busy = threading.Event()
        self.texts: list[str] = []

    def take(self, text: str) -> None:
        self.busy.set()
        assert self.open.wait(20)
        self.texts.append(text)


def test_what_is_said_comes_in_order_and_to_its_end() -> None:
    reader = Reader()
    reader.open.set()
    log = Unblocked(reader.take)
    for number in range(1000):
        log.write(f"{number}\n")
    log.finish()
    assert "".join(reader.texts) == "".join(f"{number}\n" for number in range(1000))
    assert log.dropped == 0


def test_what_nobody_reads_is_dropped_and_told_of_when_somebody_reads_again() -> None:
    reader = Reader()
    log = Unblocked(reader.take, most=20)
    log.write("first\n")
    assert reader.busy.wait(20)
    for number in range(10):
        log.write(f"line {number}\n")
    assert log.dropped == 8
    reader.open.set()
    log.finish()
    told = "istiod: 8 lines of the log were dropped here: nobody read it\n"
    assert "".join(reader.texts) == f"first\nline 0\nline 1\n{told}"
    assert log.family().samples[0].value == 8


def test_a_reader_that_is_gone_ends_nothing() -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    log = Unblocked(broken)
    log.write("a\n")
    log.finish()
    assert not log.dropped


def test_the_end_waits_for_a_while_only() -> None:
    reader = Reader()
    log = Unblocked(reader.take)
    log.write("a\n")
    assert reader.busy.wait(20)
    log.finish(0.05)
    assert reader.texts == []
    reader.open.set()


def test_standard_error_is_as_before_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    with unblocked.stderr():
        sys.stderr.write("within\n")
    assert sys.stderr is before
    assert capsys.readouterr().err == "within\n"


def bad(folder: Path, turn: int) -> None:
    """Findings, each of a line that was not there before."""
    text = "".join(BAD.format(number=turn * EACH + each, name="x" * 230) for each in range(EACH))
    beside = folder / ".bad"
    beside.write_text(text)
    beside.replace(folder / "bad.yaml")


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def scrape(pages: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{pages}/metrics", timeout=20) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_an_istiod_whose_log_nobody_reads_goes_on_and_ends(tmp_path: Path) -> None:
    folder, pages = tmp_path / "config", f"127.0.0.1:{processes.free_port()}"
    folder.mkdir()
    bad(folder, 0)
    read, written = os.pipe()
    command = ["-m", "istiod", "discovery", "--configDir", str(folder), "--monitoringAddr", pages]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=written)
    os.close(written)
    try:
        await until(lambda: bool(scrape(pages)), "it answers", 300)
        turn, dropped = 0, 0.0
        while not dropped:
            turn += 1
            assert turn < 200, "a pipe holds 64 KB, and a million characters wait"
            bad(folder, turn)
            await asyncio.sleep(0.3)  # so often they change
            dropped = value(await asyncio.to_thread(scrape, pages), "pilot_log_lines_dropped_total")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
        figures.fault(
            "FT60", f"{turn * EACH} lines that nobody read, {dropped:.0f} dropped; it answers and ends as ever"
        )
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(read)
