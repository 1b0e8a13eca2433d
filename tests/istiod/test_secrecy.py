"""What must not get out of istiod, nor in: its keys (SEC75), and code that nobody looked at (SEC76)."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from istiod.ca import authority, keystore

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^[a-z0-9._\[\],-]+==\S+( ; .+)? \\$", re.IGNORECASE)


def test_a_process_that_holds_keys_leaves_no_core_behind() -> None:
    """A crash would write them to the disk."""
    program = """
import resource as r
from istiod import __main__ as istiod
hard = r.getrlimit(r.RLIMIT_CORE)[1]
r.setrlimit(r.RLIMIT_CORE, (hard, hard))
istiod.keep_keys()
print(r.getrlimit(r.RLIMIT_CORE)[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


@pytest.mark.parametrize("part", ["key", "certificate"])
def test_no_error_about_key_material_shows_it(part: str, tmp_path: Path) -> None:
    """Not even of a file that is broken in the middle."""
    made = authority.self_signed("cluster.local", dt.datetime.now(dt.UTC))
    folder = keystore.Folder(tmp_path)
    folder.store(made)
    for name in (keystore.KEY, keystore.CERTIFICATE):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0, "nobody else may read it"
    broken = tmp_path / (keystore.KEY if part == "key" else keystore.CERTIFICATE)
    broken.write_bytes(broken.read_bytes()[:-40])
    material = folder.load()
    assert material is not None
    with pytest.raises(authority.AuthorityError) as refusal:
        authority.Authority(material)
    secret = made.key.decode().splitlines()[1]
    error: BaseException | None = refusal.value
    while error is not None:
        assert "PRIVATE KEY" not in str(error)
        assert secret[:20] not in str(error)
        error = error.__cause__
    assert "PRIVATE KEY" not in repr(made)
    assert secret[:20] not in repr(made)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_dependency_is_pinned_with_its_hashes(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", " "))]
    assert lines
    assert [line for line in lines if not PINNED.match(line)] == []


def test_the_linter_refuses_code_that_runs_what_it_reads() -> None:
    """pickle, eval, yaml.load, shell=True, verify=False: rules of the linter that nobody may switch off."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert settings["select"] == ["ALL"]
    ignored = {*settings["ignore"], *(rule for rules in settings["per-file-ignores"].values() for rule in rules)}
    assert ignored.isdisjoint({"S", "S301", "S307", "S501", "S506", "S602", "S604", "S605"})
    source = "import pickle, subprocess, yaml\npickle.loads(x)\neval(x)\nyaml.load(x)\nsubprocess.run(x, shell=True)\n"
    ruff = str(Path(sys.executable).with_name("ruff"))
    done = subprocess.run(
        [ruff, "check", "--output-format", "concise", "--stdin-filename", "istiod/x.py", "-"],
        input=source,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert {"S301", "S307", "S506", "S602"} <= set(re.findall(r" (S\d+) ", done.stdout))
