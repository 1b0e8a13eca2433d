"""Fixtures for tests marked ``apiserver``: one API server for the whole run, one namespace for each test.

A pytest plugin (tests/conftest.py names it). The programs are found or built once, before the first test, so that
minutes of building count against no test's time limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from e2e.harness import tools
from e2e.harness.controlplane import Cluster, control_plane

_NUMBER = itertools.count(1)
_MARKERS = ("apiserver", "cluster")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find or build the programs if a selected test needs them."""
    needed = any(item.get_closest_marker(name) for item in session.items for name in _MARKERS)
    if needed and not session.config.option.collectonly:
        try:
            tools.find()
        except tools.MissingProgramError as error:
            raise pytest.UsageError(f"tests marked apiserver or cluster cannot run: {error}") from error


@pytest.fixture(scope="session")
def apiserver() -> Iterator[Cluster]:
    """A real API server with controllers and scheduler, but no node, for all tests of this run."""
    with control_plane() as cluster:
        yield cluster


@pytest.fixture
def namespace(apiserver: Cluster) -> Iterator[str]:
    """A fresh namespace of a name that no other test had; it goes with all it holds, some 5 s after the test."""
    name = f"test-{next(_NUMBER)}"
    apiserver.kubectl("create", "namespace", name)
    yield name
    apiserver.kubectl("delete", "namespace", name, "--wait=false")
