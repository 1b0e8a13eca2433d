from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from istiod.lastgood import record
from istiod.lastgood.folder import FolderRecords
from istiod.supervision import SettingsError
from tests.waiting import until


async def written(records: FolderRecords, changes: Mapping[str, bytes | None]) -> None:
    asked = 0

    def due() -> Mapping[str, bytes | None]:
        nonlocal asked
        asked += 1
        return changes if asked == 1 else {}

    task = asyncio.create_task(records.run(due))
    await until(lambda: asked >= 2, "a second look")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_what_was_written_is_read_by_the_next_process(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "state"
    first = FolderRecords(folder)
    await first.load()
    await written(first, {"refused-1": b"one", "refused-2": b"two", "refused-3": None})
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    again = FolderRecords(folder)
    await again.load()
    assert again.items == {"refused-1": b"one", "refused-2": b"two"} == first.items
    await written(again, {"refused-1": None})
    assert [each.name for each in folder.iterdir()] == ["refused-2.record"]


async def test_of_what_is_no_record_little_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "large.record").write_bytes(b"x" * (record.MOST_PACKED + 100))
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / "odd.record").mkdir()
    records = FolderRecords(tmp_path)
    await records.load()
    assert {name: len(raw) for name, raw in records.items.items()} == {"large": record.MOST_PACKED + 1}
    assert "odd.record is left alone" in capsys.readouterr().err


async def test_a_folder_that_cannot_be_is_a_mistake_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="--stateDir"):
        await FolderRecords(tmp_path / "file").load()


async def test_what_cannot_be_written_is_said_once_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = FolderRecords(tmp_path / "gone")
    await written(records, {"a": b"1", "b": b"2"})
    assert records.items == {}
    assert capsys.readouterr().err.count("is not kept") >= 1
    await records.load()
    await written(records, {"a": b"1"})
    assert records.items == {"a": b"1"}
