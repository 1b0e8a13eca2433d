"""What the images hold is what their programs import; layers are kept whole."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.harness import images
from images import contents, rootfs


def imported(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


@pytest.mark.parametrize("image", contents.IMAGES.values(), ids=contents.IMAGES)
def test_an_image_holds_all_that_its_packages_import(image: contents.Image) -> None:
    have = rootfs.distributions(image.python)
    owners = importlib.metadata.packages_distributions()
    missing = set()
    for module in (name for package in image.packages for name in imported(rootfs.REPOSITORY / package)):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in image.packages:
            continue
        names = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(top, ())}
        if not names & have:
            missing.add(module)

    assert missing == set()


def test_nothing_of_a_developers_comes_along() -> None:
    for image in contents.IMAGES.values():
        assert not {"pytest", "mypy", "ruff", "pip"} & rootfs.distributions(image.python)
        assert not {"dash", "bash", "coreutils", "dpkg", "apt"} & rootfs.closure([*contents.BASE, *image.debian])


def test_a_layer_is_made_once_and_kept_while_somebody_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    times = itertools.count()

    def make(root: Path) -> None:
        root.mkdir()
        (root / "file").write_text(f"another text each time: {next(times)}")

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: images.cached(["one"], make), range(8)))
    for one in made:
        assert one.digest == "sha256:" + hashlib.sha256(one.file.read_bytes()).hexdigest()
    assert next(times) == 1

    os.utime(made[0].file, (0, 0))
    assert images.cached(["one"], make) == made[0]
    other = images.cached(["two"], make)
    assert made[0].file.exists()
    for old in (made[0].file, made[0].file.parent / "left-by-an-older-version.tar"):
        old.touch()
        os.utime(old, (0, 0))
    images.cached(["three"], make)
    assert [made[0].file.exists(), other.file.exists()] == [False, True]
    assert images.cached(["one"], make).file.exists()


def test_the_dockerfile_says_what_contents_say() -> None:
    stages = re.split(r"^FROM ", (rootfs.REPOSITORY / "images/Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    build, *final = stages
    wanted = {*contents.BASE, *(name for image in contents.IMAGES.values() for name in image.debian)}
    installed = re.search(r"--no-install-recommends \\\n(.*)", build)

    assert installed is not None
    assert set(installed[1].split()) == wanted | {"python3-venv"}
    for image, stage in zip(contents.IMAGES.values(), final, strict=True):
        assert stage.startswith(f"scratch AS {image.name}\n")
        assert f"\nUSER {image.user}\n" in stage
        assert f"\nENTRYPOINT {json.dumps(image.entrypoint)}\n" in stage
