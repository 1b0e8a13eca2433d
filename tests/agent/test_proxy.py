"""Supervision of a process, with shell commands in Envoy's place, and the program's command line."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import __main__ as program
from agent import proxy, settings
from agent.bootstrap.inputs import InputError
from tests.agent import pod
from tests.waiting import until
from wire import names


def shell(script: str, starts: list[int] | None = None) -> proxy.Proxy:
    return proxy.Proxy(("/bin/sh", "-c", script), lambda: (starts if starts is not None else []).append(1))


async def test_a_process_that_ends_well_is_not_started_again() -> None:
    starts: list[int] = []
    assert await shell("exit 0", starts).run() == 0
    assert starts == [1]


async def test_one_that_crashes_is_started_again_until_it_is_hopeless(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(proxy, "_BACK_OFF", (0.01, 0.01))
    starts: list[int] = []
    assert await shell(f"test -e {tmp_path}/x && exit 0; touch {tmp_path}/x; kill -9 $$", starts).run() == 0
    assert starts == [1, 1]
    monkeypatch.setattr(proxy, "_MAX_CRASHES", 2)
    with pytest.raises(proxy.ProxyError, match="3 times in a row, last with exit code 3"):
        await shell("exit 3").run()


async def test_a_binary_that_is_not_there_is_named() -> None:
    with pytest.raises(proxy.ProxyError, match="cannot run /nowhere/envoy"):
        await proxy.Proxy(("/nowhere/envoy",), lambda: None).run()


async def test_stop_ends_it_whatever_it_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(proxy, "_STOP_SECONDS", 0.2)
    stubborn = shell(f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done")
    running = asyncio.create_task(stubborn.run())

    await until((tmp_path / "up").exists, "it runs", 5)
    await stubborn.stop()
    assert await asyncio.wait_for(running, 5) == 137
    assert stubborn.pid is None
    await stubborn.stop()


async def test_stop_during_back_off_does_not_start_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_BACK_OFF", (60.0, 60.0))
    starts: list[int] = []
    crashed = shell("exit 7", starts)
    running = asyncio.create_task(crashed.run())

    await until(lambda: bool(starts) and crashed.pid is None, "it has crashed", 5)
    await crashed.stop()
    assert await asyncio.wait_for(running, 5) == 7
    assert starts == [1]


async def test_a_stdout_that_cannot_be_opened_by_name_is_piped(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(proxy, "_reopenable", lambda _path: False)
    monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w"))
    assert await shell("echo through a pipe").run() == 0
    sys.stdout.close()
    assert capfdbinary.readouterr().out == b"through a pipe\n"
    assert not proxy._reopenable(Path("/"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gathered(environment: dict[str, str] | None = None, **flags: Any) -> settings.Settings:
    return settings.gather(settings.Flags(**flags), environment or {})


@pytest.mark.usefixtures("folder")
def test_defaults_are_istios() -> None:
    found = gathered()
    assert found.arguments == (
        *("--drain-time-s", "45", "--drain-strategy", "immediate", "--local-address-ip-version", "v4"),
        *("--file-flush-interval-msec", "1000", "--disable-hot-restart", "--allow-unknown-static-fields"),
        *("-l", "warning", "--component-log-level", "misc:error", "--concurrency", "2"),
    )
    assert str(found.bootstrap) == "etc/istio/proxy/envoy-rev.json"
    assert found.ca_address == "istiod.istio-system.svc:15012"
    assert found.inputs.sds_socket == "./var/run/secrets/workload-spiffe-uds/socket"
    assert str(found.identity) == "spiffe://cluster.local/ns/default/sa/default"
    assert (found.termination_drain, found.minimum_drain, found.exit_on_zero) == (5, 5, False)
    assert found.secret_ttl.total_seconds() == 86_400


def test_everything_can_be_told_by_environment_and_files(folder: Path) -> None:
    pod.write(folder / "etc/istio/pod/labels", 'app="a"\nnote="say \\"hi\\""\n')
    pod.write(folder / "etc/istio/pod/annotations", 'proxy.istio.io/config="concurrency: 3\\ndrainDuration: 1m\\n"')
    pod.write(folder / "envoy", "")
    found = gathered(
        {
            "PROXY_CONFIG": json.dumps(
                {
                    "concurrency": 1,
                    "binaryPath": "./envoy",
                    "discoveryAddress": "istiod-canary.istio-system.svc:15012",
                }
            ),
            "CA_ADDR": "ca:1",
            "INSTANCE_IP": "10.0.0.1",
            "INSTANCE_IPS": "10.0.0.1,fd00::1",
            "TERMINATION_DRAIN_DURATION_SECONDS": "7",
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true",
            "TRUST_DOMAIN": "td",
            "POD_NAMESPACE": "ns",
            "SERVICE_ACCOUNT": "sa",
            "WORKLOAD_IDENTITY_SOCKET_FILE": "other",
        },
        service_cluster="mine",
    )
    assert found.inputs.labels == {"app": "a", "note": 'say "hi"'}
    assert found.inputs.config["serviceCluster"] == "mine"
    assert found.inputs.addresses == ("10.0.0.1", "fd00::1")
    assert found.inputs.istiod_san == "istiod-canary.istio-system.svc"
    assert found.envoy == "./envoy"
    assert found.arguments[-1] == "3"
    assert found.arguments[1] == "60"
    assert (found.ca_address, found.termination_drain, found.exit_on_zero) == ("ca:1", 7, True)
    assert str(found.identity) == "spiffe://td/ns/ns/sa/sa"
    assert found.inputs.sds_socket.endswith("/other")


@pytest.mark.usefixtures("folder")
def test_concurrency_and_addresses_have_their_order() -> None:
    assert gathered({"ISTIO_CPU_LIMIT": "4"}).arguments[-1] == "4"
    assert "--concurrency" not in gathered({"ISTIO_CPU_LIMIT": "4"}, concurrency=0).arguments
    assert "v6" in gathered({"INSTANCE_IP": "fd00::1"}).arguments
    assert "--component-log-level" not in gathered(component_log_level="").arguments
    assert (
        gathered({"PROXY_CONFIG": "discoveryAddress: 127.0.0.1:15012"}).inputs.istiod_san == "istiod.istio-system.svc"
    )


@pytest.mark.parametrize("text", ["app", "app=", "app=a", "app=1"])
def test_downward_lines_that_are_none_are_named(text: str) -> None:
    with pytest.raises(InputError, match="is not KEY=QUOTED"):
        settings.parse_downward(text)


def test_a_downward_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "etc/istio/pod/labels").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot read .*labels"):
        gathered()


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["version"]) == 0
    assert names.VERSION in capsys.readouterr().out


def test_an_unknown_flag_is_an_error_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["proxy", "sidecar", "--nonsense=1"])
    assert "--nonsense=1" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_proxy_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PROXY_CONFIG", "[]")
    assert program.main(["proxy", "--log_output_level=default:info,sds:debug"]) == 1
    assert "ProxyConfig must be a mapping" in caplog.text
    assert logging.getLogger("sds").level == logging.DEBUG


def test_the_log_can_be_json() -> None:
    record = logging.LogRecord("scope", logging.INFO, "", 0, 'say "%s"', ("hi",), None)
    line = json.loads(program._Json().format(record))
    assert (line["level"], line["scope"], line["msg"]) == ("info", "scope", 'say "hi"')


async def answering(status: bytes) -> tuple[asyncio.Server, int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\n\r\nbody")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, cwd=pod.ROOT, timeout=30
    )


async def test_request_asks_and_wait_waits(capsys: pytest.CaptureFixture[str]) -> None:
    good, good_port = await answering(b"200 OK")
    bad, bad_port = await answering(b"503 no")
    async with good, bad:

        def call(*arguments: str) -> tuple[int, str, str]:
            code = program.main(arguments)
            return (code, *capsys.readouterr())

        asked = await asyncio.to_thread(call, "request", "GET", "stats", f"--debug-port={good_port}")
        assert asked == (0, "body", "")
        code, _, error = await asyncio.to_thread(call, "request", "POST", "/drain", f"--debug-port={bad_port}")
        assert (code, error) == (1, "pilot-agent: /drain answered 503\n")
        code, _, error = await asyncio.to_thread(call, "request", "GET", "x", "--debug-port=1")
        assert code == 1
        assert "cannot reach 127.0.0.1:1" in error

        url = f"--url=http://127.0.0.1:{good_port}/healthz/ready"
        assert (await asyncio.to_thread(call, "wait", url))[0] == 0
        for port, reason in ((bad_port, "body"), (1, "cannot reach")):
            url = f"--url=http://127.0.0.1:{port}/healthz/ready"
            code, _, error = await asyncio.to_thread(call, "wait", url, "--timeoutSeconds=0.2", "--periodMillis=50")
            assert code == 1
            assert reason in error
        assert (await asyncio.to_thread(call, "wait", "--url=elsewhere"))[0] == 1


async def test_istio_iptables_has_its_own_flags() -> None:
    done = await run("istio-iptables", "--nonsense")
    assert done.returncode != 0
    assert "nonsense" in done.stderr
