"""``x ca`` on the folder of an istiod that runs: it asks once, and says each step as istiod takes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from istioctl import __main__ as program
from istioctl import ca as command
from istiod.ca import authority, keystore, place, rollover
from tests.ca import chains
from tests.ca.test_following import world
from tests.waiting import until

UNKNOWN = rollover.Seen()


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(program.main, ["x", "ca", *arguments])


async def test_a_root_is_replaced_and_each_step_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "LOOK", 0.02)
    folder = tmp_path / "ca"
    where = ("--ca-dir", str(folder))
    async with world(folder, monkeypatch) as mesh:
        (old,) = mesh.roots()
        await until((folder / keystore.STATE).exists, "it is read")
        assert await run("status", *where) == 0
        assert "step 3 of 3: nothing is being replaced; 1 root(s) published" in capsys.readouterr().out
        assert await run("rotate", "--wait=signs", *where) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"A new self-signed root is asked for (folder {folder})."
        steps = [int(line.partition("step ")[2][0]) for line in lines[1:]]
        assert steps == sorted(steps)
        assert (steps[-1], set(steps) <= {0, 1, 2}) == (2, True)
        assert any("step 1 of 3" in line and "does not sign yet" in line for line in lines)
        assert len(mesh.roots()) == 2
        assert mesh.signer.current.anchor.encode() != old
        assert await run("rotate", *where) == 0
        again = capsys.readouterr().out
        assert again.startswith("A root is being replaced already: no further one is asked for.\nstep 2 of 3: ")
        assert "the old root is not removed" in again
        assert await run("status", "--wait", "--timeout", "60s", *where) == 0
        assert "step 3 of 3: nothing is being replaced" in capsys.readouterr().out
        assert old not in mesh.roots()


async def test_where_nobody_takes_it_up_it_says_so_and_asks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "LOOK", 0.02)
    monkeypatch.setattr(command, "PATIENCE", 0.1)
    place.load_or_create(tmp_path, "cluster.local", chains.now())
    for word in ("is asked for", "no further one is asked for"):
        assert await run("rotate", "--wait", "--timeout", "300ms", "--ca-dir", str(tmp_path)) == 1
        shown = capsys.readouterr()
        assert word in shown.out
        assert "step 0 of 3: asked for" in shown.out
        assert "Warning: no istiod takes it up" in shown.err
        assert "Error: not within 0.3 s; it goes on by itself: step 0 of 3" in shown.err


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (None, "there is no CA in folder"),
        (chains.intermediate(authority.self_signed("x", chains.now())), "the CA is your own: replace its files"),
    ],
)
async def test_what_is_not_istiods_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: authority.Material | None, reason: str
) -> None:
    if made is not None:
        keystore.Folder(tmp_path).store(made)
    assert await run("rotate", "--ca-dir", str(tmp_path)) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / keystore.ROTATE).exists()


async def test_the_status_is_told_of_an_operators_own_ca(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = authority.self_signed("x", chains.now())
    keystore.Folder(tmp_path).store(chains.intermediate(root))
    assert await run("status", "--ca-dir", str(tmp_path)) == 0
    assert "nothing is being replaced" in capsys.readouterr().out
    state = rollover.first(authority.Authority(root), 0.0, 1.0)
    asked = rollover.step(state, authority.Authority(authority.self_signed("y", chains.now())), None, UNKNOWN, 2.0)
    (tmp_path / keystore.STATE).write_text(rollover.dump(asked.state))
    assert await run("status", "--ca-dir", str(tmp_path)) == 0
    assert "step 1 of 3" in capsys.readouterr().out


async def test_a_state_that_cannot_be_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.load_or_create(tmp_path, "cluster.local", chains.now())
    for content in (b"{", b"\xff\xfe"):
        (tmp_path / keystore.STATE).write_bytes(content)
        assert await run("status", "--ca-dir", str(tmp_path)) == 1
        assert "Error: " in capsys.readouterr().err


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["x", "ca", "rotate", "--timeout", "soon"])
    assert "--timeout" in capsys.readouterr().err
