from __future__ import annotations

import pathlib

import pytest

from bench import history, report, world
from bench.micro import Mesh
from crds.parse import parse
from istiod.mesh.context import scope


def test_a_figure_that_is_worse_than_the_last_run_of_its_size_is_told(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "history.jsonl"
    for size, first in (("1,1,1", 10.0), ("2,2,2", 99.0)):
        history.append(file, history.entry(size, "delta", {"first_ms": first, "endpoint_us": 100.0}, 1.0))
    now = history.entry("1,1,1", "delta", {"first_ms": 12.0, "endpoint_us": 110.0}, 1.0)
    before = history.last(file, now)
    assert before is not None
    assert [line.partition(" (")[0] for line in history.worse(before, now)] == ["WORSE by 20 %: first_ms 10 -> 12"]
    assert history.last(file, history.entry("1,1,1", "sotw", {}, 1.0)) is None


def test_a_slow_machine_is_no_regression_and_memory_is_not_scaled() -> None:
    figures = {"first_ms": 20.0, "rss_settled_mb": 200.0, "first_wall_s": 3.0}
    assert history.entry("1,1,1", "delta", figures, 2.0)["figures"] == {"first_ms": 10.0, "rss_settled_mb": 200.0}


def test_the_table_sets_our_figures_beside_the_recorded_ones() -> None:
    lines = list(report.table("1000,5,200", {"first_ms": 8.88, "rss_before_mb": 97.0}, 2.0))
    assert [line.split()[-4:] for line in lines[1:]] == [["8.88", "4.44", "88.8", "10.0x"], ["MB", "97", "194", "2.0x"]]


@pytest.mark.parametrize("said", ["20,2,5", "mixed:60,2,5"])
def test_every_object_of_a_world_is_one_that_istiod_takes_and_finds_nothing_wrong_with(said: str) -> None:
    size = world.parse_size(said, sidecars=2)
    changes = [made(size, 1, 7) for made in world.CHANGES.values()]
    for document in (*world.documents(size), *changes):
        found = parse(document)
        assert found.object is not None, found.diagnostics
        assert found.diagnostics == ()
    assert [node["ns"] for node in world.nodes(size)] == [f"ns-{i}" for i in range(5)]


def test_in_the_mixed_mesh_those_are_told_whose_sidecars_let_them_know() -> None:
    mesh = Mesh(world.parse_size("mixed:100,1,100"))
    mesh.connect()
    found = mesh.pipeline.context
    assert found is not None
    assert found.diagnostics == ()
    assert len({len(scope(found, proxy).outbound.clusters) for proxy in mesh.proxies}) > 1
    for turn in (0, 3):
        for name, made in world.CHANGES.items():
            before = [client.sent for client in mesh.clients]
            mesh.change(made(mesh.size, turn, 40 + turn))
            told = sum(client.sent > sent for client, sent in zip(mesh.clients, before, strict=True))
            assert 0 < world.audience(mesh.size, turn, new=name == "service") == told < 100


def test_a_size_that_is_none_is_refused() -> None:
    assert str(world.parse_size("mixed")) == "mixed:1000,10,1000"
    with pytest.raises(ValueError, match="no kind of mesh"):
        world.parse_size("other:1,2,3")
