"""Fixtures for tests marked ``apiserver`` (one API server for the run) and ``cluster`` (one node for the run).

A pytest plugin (tests/conftest.py names it). The programs are found or built once, before the first test, so that
minutes of building count against no test's time limit.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.harness import images, sandbox, tools
from e2e.harness.controlplane import Cluster, control_plane

_NUMBER = itertools.count(1)
_MARKERS = ("apiserver", "cluster")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find or build the programs, and the layers of images that can be kept, if a selected test needs them."""
    needed = {name for item in session.items for name in _MARKERS if item.get_closest_marker(name)}
    if not needed or session.config.option.collectonly:
        return
    try:
        tools.find()
        if "cluster" in needed and not sandbox.obstacle():
            images.prepare()
    except (tools.MissingProgramError, LookupError) as error:
        raise pytest.UsageError(f"tests marked apiserver or cluster cannot run: {error}") from error


@pytest.fixture(scope="session")
def apiserver() -> Iterator[Cluster]:
    """A real API server with controllers and scheduler, but no node, for all tests of this run."""
    with control_plane() as cluster:
        yield cluster


@pytest.fixture
def namespace(apiserver: Cluster) -> Iterator[str]:
    """A fresh namespace; it goes with all it holds, some 5 s after the test, and no other test had its name."""
    name = f"test-{next(_NUMBER)}"
    apiserver.kubectl("create", "namespace", name)
    yield name
    apiserver.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def node() -> Iterator[Cluster]:
    """A whole cluster for all tests of this run: the one that ``E2E_KUBECONFIG`` names, or one of our own."""
    named = os.environ.get("E2E_KUBECONFIG")
    reason = "" if named else sandbox.obstacle()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        if named:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="e2e-")))
            yield Cluster(kubeconfig=Path(named).resolve(), server="", tools=tools.find(), home=home)
        else:
            yield stack.enter_context(sandbox.cluster())


@pytest.fixture
def cluster(node: Cluster) -> Iterator[Cluster]:
    """The same, with the test in its network: what it connects to, and what it starts, reaches pods and Services."""
    with sandbox.network(node):
        yield node
