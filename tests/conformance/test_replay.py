"""The shortcut of the conformance runner gives what the real server sends, to the byte."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from conformance import groups, instruments, replay, traffic
from e2e.harness.ports import free_ports

ROOT = instruments.root()
SEED = 4
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no conformance cases at {ROOT}")


def some(group: str, count: int) -> list[Path]:
    paths = [path for path, _ in groups.BY_NAME[group].cases(ROOT)]
    picked = random.Random(SEED)
    return picked.sample(paths, count) if paths else []


@contextmanager
def istiod(folder: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command = [sys.executable, "-m", "istiod", "discovery", "--configDir", str(folder), "--grpcAddr", address]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield address
        finally:
            process.terminate()
            process.wait(20)


def dumped(address: str, node_id: str, metadata: Mapping[str, Any]) -> Iterable[Message]:
    deadline = time.monotonic() + 100
    while True:
        try:
            return [
                each for kind in instruments.tool("xdsdump").dump(address, node_id, metadata).values() for each in kind
            ]
        except grpc.RpcError:
            assert time.monotonic() < deadline


def told(messages: Iterable[Message]) -> dict[tuple[str, str], bytes]:
    return {
        (each.DESCRIPTOR.name, getattr(each, "name", "") or getattr(each, "cluster_name", "")): each.SerializeToString(
            deterministic=True
        )
        for each in messages
    }


def check(contents: Mapping[str, bytes], proxies: Iterable[tuple[str, Mapping[str, Any]]], folder: Path) -> None:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    world = replay.Mesh(contents)
    with istiod(folder) as address:
        for proxy in proxies:
            mine = told(replay.messages(world.resources(*proxy)))
            assert mine
            assert told(dumped(address, *proxy)) == mine


@pytest.mark.parametrize("path", some("scenarios", 2), ids=groups.name_of)
def test_a_scenario_is_replayed_as_the_server_sends_it(path: Path, tmp_path: Path) -> None:
    proxies = json.loads(path.read_text())["proxies"].values()
    contents = {file.name: file.read_bytes() for file in (path.parent / "input").iterdir()}
    check(contents, [(proxy["node_id"], proxy["metadata"]) for proxy in proxies], tmp_path)


@pytest.mark.parametrize("path", [*some("simulation", 2), *some("xds", 1)], ids=groups.name_of)
def test_a_case_is_replayed_as_the_server_sends_it(path: Path, tmp_path: Path) -> None:
    case = json.loads(path.read_text())
    check(traffic.contents(case), [traffic.node(case)], tmp_path)
