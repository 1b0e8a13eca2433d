"""A mesh for tests: without control plane, with the tiny app as image ``test``."""

from __future__ import annotations

import pathlib
import sys

import pytest

from node import network
from node.backoff import Backoff
from node.images import Image
from node.options import Options

APP = str(pathlib.Path(__file__).with_name("app.py"))
GET = (sys.executable, APP, "get")


@pytest.fixture
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Options of a mesh that leaves other meshes of this machine alone: its root folder is the test's own."""
    if problem := network.missing():
        pytest.skip(problem)
    return Options(
        root=tmp_path_factory.mktemp("meshes"),
        control_plane=False,
        images={"test": Image(entrypoint=(sys.executable, APP))},
        backoff=Backoff(base=0.1, cap=0.2),
    )
