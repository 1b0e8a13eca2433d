import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from crds import core
from crds.diagnostic import Code, Diagnostic
from crds.key import ConfigKey
from istiod.config.store import ConfigStore
from istiod.watch import directory, files
from istiod.watch.files import FileSet

DEADLINE = 10.0


def config_map(name: str, value: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: '{value}'}}\n"


class Watched:
    """A running watch over some folders, and what it said."""

    def __init__(self, *folders: Path, after: "Watched | None" = None) -> None:
        self.store: ConfigStore = after.store if after else ConfigStore()
        self.positions: FileSet = after.positions if after else FileSet()
        self.reports: list[tuple[Diagnostic, ...]] = []
        self._ready = asyncio.Event()
        names = [str(folder) for folder in folders]
        self._task = asyncio.create_task(
            directory.watch(names, self.store, self.reports.append, self._ready.set, self.positions)
        )

    async def start(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._ready.wait()

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    @property
    def values(self) -> dict[str, str]:
        held = self.store.snapshot().of("", "ConfigMap").values()
        return {item.metadata.name: item.data["value"] for item in held if isinstance(item, core.ConfigMap)}

    @property
    def codes(self) -> list[Code]:
        return [finding.code for finding in self.reports[-1]] if self.reports else []

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                if self._task.done():
                    await self._task
                await asyncio.sleep(0.005)

    async def see(self, **values: str) -> None:
        await self.until(lambda: self.values == values)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    (tmp_path / "first.yaml").write_text(config_map("first", "1"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "second.yml").write_text(config_map("second", "1"))
    (tmp_path / "ignored.txt").write_text("a: [")
    (tmp_path / ".hidden.yaml").write_text("a: [")
    found = Watched(tmp_path)
    await found.start()
    yield found
    await found.stop()


async def test_everything_is_there_when_it_says_ready(watched: Watched) -> None:
    assert watched.values == {"first": "1", "second": "1"}
    assert watched.reports == []


async def test_files_that_change_come_and_go_are_followed(watched: Watched, tmp_path: Path) -> None:
    third = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "third"}, "data": {"value": "1"}}
    (tmp_path / "third.json").write_text(json.dumps(third))
    await watched.see(first="1", second="1", third="1")
    (tmp_path / "first.yaml").write_text(config_map("first", "2"))
    await watched.see(first="2", second="1", third="1")
    (tmp_path / "third.json").unlink()
    await watched.see(first="2", second="1")


async def test_an_atomic_rename_replaces_a_file(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / ".new").write_text(config_map("other", "2"))
    (tmp_path / ".new").rename(tmp_path / "first.yaml")
    await watched.see(other="2", second="1")


async def test_an_object_that_moves_to_another_file_is_never_missing(watched: Watched, tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []
    watched.store.listen(lambda _: seen.append(watched.values))
    (tmp_path / "moved.yaml").write_text(config_map("first", "2"))
    (tmp_path / "first.yaml").unlink()
    await watched.see(first="2", second="1")
    assert all("first" in values for values in seen), seen


async def test_what_replaces_another_object_comes_before_that_one_goes(watched: Watched, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    watched.store.listen(lambda _: seen.append(set(watched.values)))
    (tmp_path / "successor.yaml").write_text(config_map("successor", "1"))
    (tmp_path / "first.yaml").unlink()
    await watched.see(successor="1", second="1")
    assert all({"first", "successor"} & names for names in seen), seen


async def test_folders_that_come_and_go_are_followed(watched: Watched, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (tmp_path / "sub").rename(outside)
    await watched.see(first="1")
    (outside / "second.yml").write_text(config_map("second", "2"))
    outside.rename(tmp_path / "back")
    await watched.see(first="1", second="2")


async def test_a_broken_file_keeps_what_it_had_and_is_reported_until_repaired(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(config_map("first", "2") + "---\nbroken: [\n")
    await watched.until(lambda: watched.codes == [Code.UNREADABLE])
    assert watched.values["first"] == "2"
    (tmp_path / "first.yaml").write_text("broken: [\n")
    await watched.until(lambda: str(watched.reports[-1][0].position).endswith("first.yaml:2"))
    assert watched.values["first"] == "2"
    (tmp_path / "first.yaml").write_text(config_map("first", "3"))
    await watched.see(first="3", second="1")
    await watched.until(lambda: watched.codes == [])


async def test_a_file_that_is_being_written_loses_nothing(watched: Watched, tmp_path: Path) -> None:
    removed: list[ConfigKey] = []
    watched.store.listen(removed.append)
    with (tmp_path / "first.yaml").open("w") as file:  # empty from here on
        os.utime(tmp_path / "first.yaml")
        file.write("# slowly\n")
        file.flush()
        file.write(config_map("first", "1"))
    (tmp_path / "last.yaml").write_text(config_map("last", "1"))
    await watched.see(first="1", second="1", last="1")
    assert [key.name for key in removed] == ["last"]


async def test_a_volume_of_links_is_followed(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    for name, value in (("..1", "1"), ("..2", "2")):
        (volume / name).mkdir(parents=True)
        (volume / name / "a.yaml").write_text(config_map("a", value))
    (volume / "..data").symlink_to("..1")
    (volume / "a.yaml").symlink_to("..data/a.yaml")
    (volume / "loop").symlink_to(".")
    watched = Watched(volume)
    await watched.start()
    assert watched.values == {"a": "1"}
    (volume / "..tmp").symlink_to("..2")
    (volume / "..tmp").rename(volume / "..data")
    await watched.see(a="2")
    assert watched.reports == []
    await watched.stop()


async def test_a_folder_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    here, later = tmp_path / "here", tmp_path / "later"
    watched = Watched(here, later)
    await watched.start()
    assert watched.codes == [Code.UNREADABLE, Code.UNREADABLE]
    here.mkdir()
    (here / "a.yaml").write_text(config_map("a", "1"))
    await watched.see(a="1")
    assert watched.codes == [Code.UNREADABLE]
    later.mkdir()
    (later / "b.yaml").write_text(config_map("b", "1"))
    await watched.see(a="1", b="1")
    await watched.stop()


async def test_relative_folders_keep_the_users_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    watched = Watched(Path("conf"))
    await watched.start()
    (tmp_path / "conf" / "a.yaml").write_text(config_map("a", "1"))
    await watched.see(a="1")
    position = watched.positions.position(ConfigKey("", "ConfigMap", "default", "a"), "data.value")
    assert str(position) == "conf/a.yaml:4"
    await watched.stop()


async def test_large_files_are_read_and_too_large_ones_are_reported(tmp_path: Path) -> None:
    many = "---\n".join(config_map(f"n{number}", "1") for number in range(2000))
    (tmp_path / "many.yaml").write_text(many)
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(files.LARGEST + 1)
    watched = Watched(tmp_path)
    await watched.start()
    assert len(watched.values) == 2000
    assert watched.codes == [Code.FILE_TOO_LARGE]
    await watched.stop()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
async def test_a_file_without_read_permission_is_reported(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").chmod(0)
    (tmp_path / "other.yaml").touch(0)
    await watched.until(lambda: Code.UNREADABLE in watched.codes)


async def test_a_file_that_went_while_the_watch_was_down_is_gone_after_it(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(config_map(name, "1"))
    fallen = Watched(tmp_path)
    await fallen.start()
    await fallen.stop()
    (tmp_path / "second.yaml").unlink()
    again = Watched(tmp_path, after=fallen)
    await again.see(first="1")
    await again.stop()
