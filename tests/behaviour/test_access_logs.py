"""Access logs of real calls through real Envoys, in files and at services: who logs what, and how it reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.behaviour import rig as rigs
from tests.behaviour.log_services import LogService, attributes
from tests.behaviour.next_workload import NextWorkload
from tests.behaviour.rig import Rig, address
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]
GRPC = 4319
AT = 16
"""Where the service is that takes logs: not in the world, so that nothing else is asked there."""
OBJECTS = """
kind: ServiceEntry
metadata: {name: logs, namespace: logging}
spec:
  hosts: [logs.example]
  exportTo: [.]
  resolution: STATIC
  endpoints: [{address: $ip16}]
  ports: [{number: 4319, name: grpc, protocol: GRPC}]
"""


class Logged(NextWorkload):
    """The rig with a service for logs, and files."""

    def __init__(self, rig: Rig, service: LogService, folder: Path) -> None:
        super().__init__(rig)
        self.service = service
        self.folder = folder

    async def use(self, mesh: str, *objects: str) -> None:
        """Work with these mesh settings and Telemetry objects (``namespace: spec``), and begin anew."""
        self.used += 1
        text = OBJECTS
        for index, one in enumerate(objects):
            (namespace, spec), *_ = yaml.safe_load(self._filled(one)).items()
            metadata = {"name": f"t{index}", "namespace": namespace}
            whole = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": metadata, "spec": spec}
            text += f"---\n{json.dumps(whole)}\n"
        await self.settle(yaml.safe_load(self._filled(mesh)), text)
        self.service.forget()

    def _filled(self, text: str) -> str:
        return text.replace("FOLDER", str(self.folder / str(self.used)))

    async def lines(self, name: str, count: int = 1) -> list[str]:
        """The lines of a file, once there are so many."""
        await until(lambda: len(self.file(name)) >= count, f"{count} lines of {name}")
        return self.file(name)

    def file(self, name: str) -> list[str]:
        """The lines of a file now."""
        path = Path(f"{self.folder}/{self.used}{name}")
        return path.read_text().splitlines() if path.exists() else []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Logged]:
    folder = Path(tmp_path_factory.mktemp("logs"))
    async with rigs.running(Path(tmp_path_factory.mktemp("rig"))) as rig, contextlib.AsyncExitStack() as stack:
        service = LogService()
        await service.start(address(AT), GRPC)
        stack.push_async_callback(service.stop)
        yield Logged(rig, service, folder)


FILE = "{name: NAME, envoyFileAccessLog: {path: FOLDERNAME, logFormat: {text: '%REQ(:PATH)% %RESPONSE_CODE%'}}}"
BOTH = f"extensionProviders: [{FILE.replace('NAME', 'a')}, {FILE.replace('NAME', 'b')}]"


async def test_a_provider_logs_on_both_sides_of_a_call(mesh: Logged) -> None:
    await mesh.use(f"{{{BOTH}}}", "istio-system: {accessLogging: [{providers: [{name: a}]}]}")
    await mesh.call("/x?y=z")
    assert await mesh.lines("a", 2) == ["/x?y=z 200"] * 2
    assert mesh.file("b") == []


async def test_one_side_and_several_providers(mesh: Logged) -> None:
    spec = "[{providers: [{name: a}], match: {mode: CLIENT}}, {providers: [{name: b}]}]"
    await mesh.use(f"{{{BOTH}}}", f"istio-system: {{accessLogging: {spec}}}")
    await mesh.call("/x")
    assert await mesh.lines("b", 2) == ["/x 200"] * 2
    assert mesh.file("a") == ["/x 200"]


async def test_an_expression_says_what_is_logged(mesh: Logged) -> None:
    expression = 'response.code >= 200 && request.headers["x-who"].matches("^m.")'
    spec = f"[{{providers: [{{name: a}}], match: {{mode: CLIENT}}, filter: {{expression: '{expression}'}}}}]"
    await mesh.use(f"{{{BOTH}}}", f"istio-system: {{accessLogging: {spec}}}")
    await mesh.call("/a")
    await mesh.call("/b", headers={"x-who": "you"})
    await mesh.call("/c", headers={"x-who": "me"})
    assert await mesh.lines("a") == ["/c 200"]


async def test_a_workloads_own_word_takes_the_place_of_the_meshs(mesh: Logged) -> None:
    await mesh.use(
        f"{{{BOTH}, defaultProviders: {{accessLogging: [a]}}}}",
        "default: {selector: {matchLabels: {app: server}}, accessLogging: [{providers: [{name: b}]}]}",
    )
    await mesh.call("/x")
    assert await mesh.lines("b") == ["/x 200"]
    assert await mesh.lines("a") == ["/x 200"]
    await mesh.use(
        f"{{{BOTH}, defaultProviders: {{accessLogging: [a, b]}}}}",
        "istio-system: {accessLogging: [{providers: [{name: a}]}, {providers: [{name: b}], disabled: true}]}",
        "default: {selector: {matchLabels: {app: server}}, accessLogging: [{disabled: true}]}",
    )
    await mesh.call("/x")
    assert (await mesh.lines("a"), mesh.file("b")) == (["/x 200"], [])


async def test_the_built_in_provider_has_the_meshs_format_and_the_rule_at_the_end(mesh: Logged) -> None:
    own = "{name: envoy, envoyFileAccessLog: {path: FOLDERa}}"
    await mesh.use(
        f"{{extensionProviders: [{own}], accessLogEncoding: JSON}}",
        "istio-system: {accessLogging: [{providers: [{name: envoy}], match: {mode: CLIENT}}]}",
    )
    await mesh.call("/x")
    (line,) = await mesh.lines("a")
    found = json.loads(line)
    assert (found["path"], found["rule_field"]) == ("/x", "spec.http[0]")
    assert found["rule"] == "/apis/networking.istio.io/v1/namespaces/default/virtual-service/next"
    await mesh.use(
        "{extensionProviders: [{name: mine, envoyFileAccessLog: {path: FOLDERa}}], accessLogEncoding: JSON}",
        "istio-system: {accessLogging: [{providers: [{name: mine}], match: {mode: CLIENT}}]}",
    )
    await mesh.call("/x")
    (line,) = await mesh.lines("a")
    assert line.startswith("[")
    assert line.endswith(" spec.http[0]")


async def test_labels_make_an_object_and_what_has_no_value_can_be_left_out(mesh: Logged) -> None:
    labels = "{labels: {path: '%REQ_WITHOUT_QUERY(:PATH)%', none: '%REQ(X-NONE)%', deep: {code: '%RESPONSE_CODE%'}}}"
    some = f"logFormat: {labels}"
    await mesh.use(
        f"{{extensionProviders: [{{name: a, envoyFileAccessLog: {{path: FOLDERa, {some}}}}},"
        f" {{name: b, envoyFileAccessLog: {{path: FOLDERb, omitEmptyValues: true, {some}}}}},"
        " {name: c, envoyFileAccessLog: {path: FOLDERc, logFormat: {labels: {}}}}]}",
        "istio-system: {accessLogging: [{providers: [{name: a}, {name: b}, {name: c}], match: {mode: CLIENT}}]}",
    )
    await mesh.call("/x?y=z")
    (plain,), (short,) = await mesh.lines("a"), await mesh.lines("b")
    assert json.loads(plain) == {"path": "/x", "none": None, "deep": {"code": 200}}
    assert json.loads(short) == {"path": "/x", "deep": {"code": 200}}
    (default,) = await mesh.lines("c")
    assert json.loads(default)["authority"] == mesh.host


async def test_services_are_told_of_requests_with_headers_that_are_asked_for(mesh: Logged) -> None:
    said = (
        "{service: logging/logs.example, port: 4319, additionalRequestHeadersToLog: [x-who],"
        " additionalResponseHeadersToLog: [server]}"
    )
    await mesh.use(
        f"{{extensionProviders: [{{name: als, envoyHttpAls: {said}}}]}}",
        "istio-system: {accessLogging: [{providers: [{name: als}], match: {mode: CLIENT}}]}",
    )
    await mesh.call("/x", headers={"x-who": "me"})
    await until(lambda: bool(mesh.service.requests("http_envoy_accesslog")), "an entry")
    (entry,) = mesh.service.requests("http_envoy_accesslog")
    assert (entry.request.path, entry.response.response_code.value) == ("/x", 200)
    assert dict(entry.request.request_headers) == {"x-who": "me"}
    assert dict(entry.response.response_headers).keys() == {"server"}


async def test_services_are_told_of_connections(mesh: Logged) -> None:
    said = "{service: logs.example, port: 4319, logName: mine}"
    await mesh.use(
        f"{{extensionProviders: [{{name: als, envoyTcpAls: {said}}}]}}",
        "istio-system: {accessLogging: [{providers: [{name: als}], filter: {expression: 'connection.id > 0'}}]}",
    )
    assert (await mesh.rig.line()).endswith("hello")
    await until(lambda: bool(mesh.service.connections("mine")), "an entry")
    assert mesh.service.connections("mine")[0].connection_properties.received_bytes == len("hello\n")


async def test_opentelemetry_has_bodies_and_attributes(mesh: Logged) -> None:
    labels = "{path: '%REQ_WITHOUT_QUERY(:PATH)%', who: me}"
    said = f"{{service: logs.example, port: 4319, logFormat: {{text: 'code %RESPONSE_CODE%', labels: {labels}}}}}"
    await mesh.use(
        f"{{extensionProviders: [{{name: otel, envoyOtelAls: {said}}},"
        " {name: plain, envoyOtelAls: {service: logs.example, port: 4319, logName: plain}}]}",
        "istio-system: {accessLogging: [{providers: [{name: otel}, {name: plain}], match: {mode: CLIENT}}]}",
    )
    await mesh.call("/x?y=z")
    await until(lambda: len(mesh.service.records()) > 1, "two records")
    by_body = {record.body.string_value[:4]: record for _, record in mesh.service.records()}
    assert attributes(by_body["code"]) == {"path": "/x", "who": "me"}
    assert by_body["code"].body.string_value == "code 200"
    (default,) = [record for body, record in by_body.items() if body.startswith("[")]
    assert default.body.string_value.endswith(" spec.http[0]\n")


async def test_providers_that_are_not_there_take_nothing_with_them(mesh: Logged) -> None:
    await mesh.use(
        f"{{{BOTH[:-1]}, {{name: gone, envoyHttpAls: {{service: gone.example, port: 1}}}}]}}",
        "istio-system: {accessLogging: [{providers: [{name: a}, {name: gone}, {name: other}, {name: prometheus}]}]}",
    )
    await mesh.call("/x")
    assert await mesh.lines("a", 2) == ["/x 200"] * 2
    told = [one.partition(": ")[2] for one in mesh.rig.findings() if "UNKNOWN_LOG_PROVIDER" in one]
    assert told == [
        "no service gone.example is in the mesh; nothing is logged there",
        "the mesh configuration has no provider 'other'; nothing is logged there",
        "prometheus takes no access logs; nothing is logged there",
    ]


async def test_a_service_that_goes_while_logs_are_sent_there_is_no_reason_to_refuse_anything(mesh: Logged) -> None:
    als = "{extensionProviders: [{name: als, envoyHttpAls: {service: logs.example, port: 4319}}]}"
    logging = "istio-system: {accessLogging: [{providers: [{name: als}]}]}"
    await mesh.use(als, logging)
    await mesh.call("/x")
    await mesh.use("{}", logging)
    await mesh.call("/x")
    await mesh.use(als, logging)
    await mesh.call("/y")
    await until(lambda: len(mesh.service.requests("http_envoy_accesslog")) > 1, "entries")
