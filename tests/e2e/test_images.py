"""What the images hold is what their programs import."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
