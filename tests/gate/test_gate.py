"""EnvoyFilters under admission, with a real Envoy: over the webhook, and in files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from crds.diagnostic import Code
from istioctl import __main__ as istioctl
from istiod import admission
from istiod.config.store import ConfigStore
from istiod.gate import process
from istiod.gate.gate import Gate, Outcome
from istiod.pipeline import Pipeline
from tests.gate.filters import (
    BAD,
    EXTENSIONS,
    GOOD,
    LUA,
    MANAGER,
    WORDS,
    document,
    http_filter,
    item,
    patch,
    pod,
    put,
    service,
)
from tests.webhook.reviews import CONFIG, review, running
from tests.webhook.test_server import ask
from webhook import server

ENVOY = process.found()
PATIENCE = 60.0
STUCK = "#!/bin/sh\nexec sleep 60\n"
DEAD = "#!/bin/sh\nkill -9 $$\n"
NETWORK = EXTENSIONS + "filters.network."


@contextlib.asynccontextmanager
async def gated(
    *stored: dict[str, Any], envoy: str = ENVOY, seconds: float = PATIENCE
) -> AsyncIterator[tuple[Gate, Any]]:
    """A gate over a mesh of two workloads, and a function that has its webhook review an object."""
    store = ConfigStore()
    pipeline = Pipeline(store, lambda _: None, time.monotonic)
    put(store, service("web", "10.96.0.1"), pod("web", "10.244.0.1"), pod("api", "10.244.0.2"), *stored)
    pipeline.push()
    gate = Gate(process.Envoy(envoy), pipeline.look, seconds)
    sources = server.Sources(ready=lambda: True, config=lambda: CONFIG, findings=admission.judge, further=gate.findings)
    async with running(sources) as (client, url, _):

        async def answer(item: Any, **more: Any) -> dict[str, Any]:
            found: dict[str, Any] = (await ask(client, f"{url}/validate", review(item, **more)))["response"]
            return found

        yield gate, answer


@pytest.mark.envoy
async def test_what_envoy_refuses_is_refused_with_the_field_and_its_words() -> None:
    async with gated() as (gate, answer):
        found = await answer(document(http_filter(GOOD, name="fine"), http_filter(BAD)))
        assert found["allowed"] is False
        words = found["status"]["message"]
        assert words.startswith("EnvoyFilter demo/own: spec.configPatches")
        assert WORDS in words
        assert "[M0201]" in words
        dry = await answer(document(http_filter(BAD)), dryRun=True)
        assert dry["status"]["message"].startswith("EnvoyFilter demo/own: spec.configPatches[0]: Envoy refuses it: ")
        large = {**BAD, "descriptors": [{"entries": [{"key": "k" * 30_000, "value": "v"}], **token()}]}
        assert WORDS in (await answer(document(http_filter(large))))["status"]["message"]
    assert gate.counts.outcomes == {Outcome.REFUSED: 3}
    text = str(list(gate.counts.families()))
    assert "istiod_envoy_checks_total" in text


def token() -> dict[str, Any]:
    return {"token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}


@pytest.mark.envoy
async def test_what_envoy_takes_is_stored_and_what_it_is_not_asked_about_never_waits() -> None:
    rule = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}
    other = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": rule}
    async with gated() as (gate, answer):
        assert await answer(document(http_filter(GOOD))) == {"uid": review(None)["request"]["uid"], "allowed": True}
        assert (await answer({**other, "metadata": {"name": '"EnvoyFilter"', "namespace": "demo"}}))["allowed"] is False
        assert (await answer({**other, "metadata": {"name": "web", "namespace": "demo"}}))["allowed"]
        assert (await answer(None, operation="DELETE", oldObject=document(http_filter(BAD))))["allowed"]
        stored = document(http_filter(BAD))
        assert (await answer(stored, operation="UPDATE", oldObject=stored))["allowed"]
        assert gate.counts.outcomes == {Outcome.TAKEN: 1}
        assert (await answer(document(patch("CLUSTER", None, "REMOVE"))))["allowed"]
        assert (await answer(document(http_filter(GOOD), workloadSelector={"labels": {"app": "later"}})))["allowed"]
        later = document(http_filter(BAD), workloadSelector={"labels": {"app": "later"}})
        assert WORDS in (await answer(later))["status"]["message"]


@pytest.mark.envoy
async def test_a_neighbour_that_is_stored_already_is_nobody_elses_fault() -> None:
    async with gated(document(http_filter(BAD), name="neighbour")) as (gate, answer):
        found = await answer(document(http_filter(GOOD)))
        assert found["allowed"]
        assert "without it, too" in found["warnings"][0]
        assert gate.counts.outcomes == {Outcome.UNRELATED: 1}
        # An object of its own fault is refused for it, although Envoy stops at the neighbour's.
        own = document(http_filter({"@type": LUA, "inline_code": "function ("}, operation="INSERT_BEFORE"))
        found = await answer(own)
        assert found["allowed"] is False
        assert "script load error" in found["status"]["message"]


@pytest.mark.envoy
@pytest.mark.parametrize(
    ("neighbour", "why"),
    [
        ({"@type": LUA, "default_source_code": {"filename": "/etc/passwd"}}, "filename"),
        ({"@type": EXTENSIONS + "filters.http.wasm.v3.Wasm"}, "code"),
    ],
)
async def test_what_a_neighbour_has_and_is_not_loaded_here_switches_nothing_off(neighbour: Any, why: str) -> None:
    cluster = patch("CLUSTER", {"name": "theirs", "type": "STATIC", "connect_timeout": "1s"}, "ADD")
    async with gated(document(http_filter(neighbour), cluster, name="neighbour")) as (gate, answer):
        found = await answer(document(http_filter(BAD)))
        assert found["allowed"] is False
        assert WORDS in found["status"]["message"]
        found = await answer(document(http_filter(GOOD)))
        assert found["allowed"]
        (warning,) = found["warnings"]
        assert f"as if there were no EnvoyFilter/demo/neighbour ({why}): " in warning
        assert "[M0139]" in warning
        assert (await answer(document(access_log("theirs"))))["allowed"]
        assert gate.counts.outcomes == {Outcome.REFUSED: 1, Outcome.TAKEN: 2}


@pytest.mark.envoy
async def test_a_script_is_compiled_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    script = f'io.open("{made}", "w"):write("x")\nfunction envoy_on_request(h) end'
    async with gated() as (_, answer):
        assert (await answer(document(http_filter({"@type": LUA, "inline_code": script}))))["allowed"]
        assert not made.exists()
        found = await answer(document(http_filter({"@type": LUA, "default_source_code": {"filename": "/etc/passwd"}})))
        assert found["allowed"]
        assert "filename is of the proxy's machine" in found["warnings"][0]


@pytest.mark.parametrize(
    ("script", "why"),
    [(STUCK, "no verdict within 1 s"), (DEAD, "ended with -9 and no verdict"), (None, "there is no Envoy beside")],
)
async def test_without_a_verdict_an_object_is_stored_with_a_warning(
    tmp_path: Path, script: str | None, why: str
) -> None:
    binary = tmp_path / "envoy"
    if script is not None:
        binary.write_text(script)
        binary.chmod(0o755)
    seconds = 1.0 if script == STUCK else PATIENCE
    async with gated(envoy=str(binary) if script else "", seconds=seconds) as (gate, answer):
        found = await answer(document(http_filter(BAD)))
    assert found["allowed"]
    (warning,) = found["warnings"]
    assert why in warning
    assert "[M0120]" in warning
    assert gate.counts.outcomes == {Outcome.UNASKED: 1}


async def test_of_many_words_the_last_are_shown_which_say_why(tmp_path: Path) -> None:
    binary = tmp_path / "envoy"
    binary.write_text("#!/bin/sh\nhead -c 500000 /dev/zero | tr '\\0' 'x' >&2\necho ': too short' >&2\nexit 1\n")
    binary.chmod(0o755)
    words = await process.Envoy(str(binary)).words(b"", PATIENCE)
    assert words.endswith("x: too short")
    assert len(words) < 200_000


async def test_an_envoy_that_cannot_be_started_is_a_warning(tmp_path: Path) -> None:
    async with gated(envoy=str(tmp_path / "absent")) as (_, answer):
        assert "cannot be started" in (await answer(document(http_filter(GOOD))))["warnings"][0]


async def test_too_many_at_once_are_not_waited_for(tmp_path: Path) -> None:
    binary = tmp_path / "envoy"
    binary.write_text(STUCK)
    binary.chmod(0o755)
    async with gated(envoy=str(binary), seconds=2.0) as (_, answer):
        found: Sequence[Any] = await asyncio.gather(*(answer(document(http_filter(GOOD))) for _ in range(12)))
    assert all(each["allowed"] for each in found)
    assert "too many objects wait" in json.dumps(found)


async def test_a_bug_of_ours_is_a_warning_and_keeps_nobody_from_storing() -> None:
    async def broken(_: object) -> tuple[()]:
        raise KeyError("a bug")

    found = await Gate(process.Envoy(ENVOY), broken, PATIENCE).of(item(http_filter(GOOD)))
    assert [each.code for each in found] == [Code.UNASKED]


def access_log(cluster: str) -> dict[str, Any]:
    """A patch that has requests logged to a cluster."""
    logs = {
        "name": "grpc",
        "typed_config": {
            "@type": EXTENSIONS + "access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "a",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
            },
        },
    }
    manager = f"{NETWORK}http_connection_manager.v3.HttpConnectionManager"
    hcm = {"typed_config": {"@type": manager, "access_log": [logs]}}
    match = {"listener": {"filterChain": {"filter": {"name": MANAGER}}}}
    return {**patch("NETWORK_FILTER", hcm), "match": match}


@pytest.mark.envoy
async def test_what_only_proxies_have_is_no_reason_to_refuse() -> None:
    pattern = "|".join(f"word{n}" for n in range(40))
    matched = {"match": {"safe_regex": {"regex": f"/({pattern})"}}, "direct_response": {"status": 200}}
    far: dict[str, Any] = {"name": "far", "internal_listener": {}}
    proxy = {"@type": f"{NETWORK}tcp_proxy.v3.TcpProxy", "stat_prefix": "a", "cluster": "xds-grpc"}
    chain = {"filters": [{"name": "tcp", "typed_config": proxy}]}
    async with gated() as (_, answer):
        for each in (
            patch("HTTP_ROUTE", {"name": "own", **matched}, "INSERT_FIRST"),
            patch("LISTENER", {**far, "filter_chains": [chain]}, "ADD"),
            access_log("outbound|80||absent.shop"),
        ):
            found = await answer(document(each))
            assert found["allowed"], found


@pytest.mark.envoy
def test_files_are_judged_without_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(json.dumps(document(http_filter(GOOD))))
    bad.write_text(json.dumps(document(http_filter(BAD), name="bad")))
    assert istioctl.main(["validate", "-f", str(good), "--envoy"]) == 0
    assert capsys.readouterr().out == f'"{good}" is valid\n'
    assert istioctl.main(["validate", "-f", str(bad)]) == 0
    assert istioctl.main(["validate", "-f", str(bad), "--envoy"]) == 1
    said = capsys.readouterr().err
    assert f"Error: {bad}:1 M0201 EnvoyFilter/demo/bad spec.configPatches[0]: Envoy refuses it" in said
    assert WORDS in said


DISCOVERED = {"config_source": {"ads": {}, "resource_api_version": "V3"}, "type_urls": [GOOD["@type"], LUA]}


def extension(config: Any) -> Any:
    return patch("EXTENSION_CONFIG", {"name": "own", "typed_config": config}, "ADD")


@pytest.mark.envoy
async def test_configurations_by_discovery_are_asked_about_as_the_filters_they_are_for() -> None:
    asking = http_filter({})
    asking["patch"]["value"] = {"name": "own", "config_discovery": DISCOVERED}
    async with gated() as (gate, answer):
        assert await answer(document(asking, extension(GOOD))) == {
            "uid": review(None)["request"]["uid"],
            "allowed": True,
        }
        assert gate.counts.outcomes == {Outcome.TAKEN: 1}
        found = await answer(document(extension(BAD)))
        assert found["status"]["message"].startswith("EnvoyFilter demo/own: spec.configPatches[0]: Envoy refuses it: ")
        assert WORDS in found["status"]["message"]
        found = await answer(document(extension({"@type": LUA, "inline_code": "function ("})))
        assert "script load error" in found["status"]["message"]
        found = await answer(document(extension({"@type": NETWORK + "rbac.v3.RBAC"})))
        assert "[M0201]" in found["status"]["message"], "it has no stat_prefix"
        nothing = {**DISCOVERED, "type_urls": [EXTENSIONS + "no.such.Filter"]}
        asking["patch"]["value"] = {"name": "own", "config_discovery": nothing}
        assert "[M0201]" in (await answer(document(asking)))["status"]["message"]


@pytest.mark.envoy
async def test_patches_of_a_bootstrap_are_asked_about_in_one() -> None:
    async with gated() as (gate, answer):
        good = {"stats_config": {"stats_tags": [{"tag_name": "mine", "regex": "^(mine)"}]}}
        assert (await answer(document(patch("BOOTSTRAP", good))))["allowed"]
        assert gate.counts.outcomes == {Outcome.TAKEN: 1}
        bad = {"stats_config": {"stats_tags": [{"tag_name": "mine", "regex": "("}]}}
        found = await answer(document(patch("BOOTSTRAP", bad)))
        assert found["status"]["message"].startswith("EnvoyFilter demo/own: spec.configPatches[0]: Envoy refuses it: ")
        wasm = {"bootstrap_extensions": [{"name": "a", "typed_config": {"@type": EXTENSIONS + "wasm.v3.WasmService"}}]}
        (warning,) = (await answer(document(patch("BOOTSTRAP", wasm))))["warnings"]
        assert "runs code of a sort that is not loaded here" in warning


@pytest.mark.envoy
async def test_what_the_page_shows_is_taken() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs/envoyfilter.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    documents = [each for block in blocks for each in yaml.safe_load_all(block) if each["kind"] == "EnvoyFilter"]
    assert len(documents) == 2
    async with gated() as (gate, answer):
        found = [await answer(each) for each in documents]
        assert [each.get("warnings", each["allowed"]) for each in found] == [True, True]
        assert gate.counts.outcomes == {Outcome.TAKEN: 2}
