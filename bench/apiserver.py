"""The world in a real API server with etcd (e2e.harness), where every write takes the way that a user's takes.

Without controllers: EndpointSlices and the state of pods are written here. What istiod's CPU is spent on includes its
watches, and a latency begins when the write is sent.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import pathlib
import ssl
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

from bench import objects, world
from bench.objects import Document
from bench.processes import BenchError
from bench.world import Size
from crds.registry import KINDS
from e2e.harness import controlplane
from e2e.harness.controlplane import Cluster

ROOT: Final = "istio-system"
_SERVICES: Final = "172.20.0.0/16"
"""The addresses of the world's Services."""
_DEFINITIONS: Final = pathlib.Path(__file__).resolve().parent.parent / "crds"
_MISSING: Final = 404


@contextlib.contextmanager
def started() -> Iterator[ApiServer]:
    """An API server with our definitions, until the block ends."""
    flags = {"service-cluster-ip-range": _SERVICES, "disable-admission-plugins": "ServiceAccount"}
    with controlplane.control_plane(controllers=False, flags=flags) as cluster:
        definitions = [flag for path in sorted(_DEFINITIONS.glob("*.yaml")) for flag in ("-f", str(path))]
        cluster.kubectl("apply", "--server-side", *definitions)
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield ApiServer(cluster)


class ApiServer:
    """A client that writes over one connection."""

    def __init__(self, cluster: Cluster) -> None:
        pki = cluster.kubeconfig.parent
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._cluster = cluster
        address = urllib.parse.urlsplit(cluster.server)
        self._connection = http.client.HTTPSConnection(address.hostname or "", address.port, context=context)

    def fill(self, size: Size) -> None:
        """Write the whole world: namespaces first, then all else; what pods are like is a write of its own."""
        for name in (ROOT, *(objects.ns(i, size.spread) for i in range(size.spread))):
            self._call("POST", "/api/v1/namespaces", objects.made("v1", "Namespace", name, ""))
        for document in world.documents(size):
            self._create(document)

    def put(self, document: Document) -> None:
        """Write an object."""
        folder, name = _folder(document), document["metadata"]["name"]
        if self._call("PATCH", f"{folder}/{name}", document, missing=True) == _MISSING:
            self._create(document)

    def flags(self, home: pathlib.Path) -> tuple[str, ...]:
        """What tells istiod to read it; its CA is the one of ``home``."""
        names = ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
        data = {name: base64.b64encode((home / "ca" / name).read_bytes()).decode() for name in names}
        self._create(objects.made("v1", "Secret", "istio-ca-secret", ROOT, type="istio.io/ca-root", data=data))
        quiet = ("--httpAddr", "", "--httpsAddr", "", "--secureGRPCAddr", "127.0.0.1:0")
        return ("--kubeconfig", str(self._cluster.kubeconfig), *quiet)

    def _create(self, document: Document) -> None:
        folder = _folder(document)
        self._call("POST", folder, document)
        if document["kind"] == "Pod":
            self._call("PATCH", f"{folder}/{document['metadata']['name']}/status", {"status": document["status"]})

    def _call(self, method: str, path: str, body: Document, *, missing: bool = False) -> int:
        """Gives the status.

        Raises:
            BenchError: it is no success, nor 404 where ``missing`` allows that.
        """
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self._connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        response = self._connection.getresponse()
        said = response.read()
        if response.status >= http.client.BAD_REQUEST and not (missing and response.status == _MISSING):
            raise BenchError(f"{method} {path}: {response.status} {said.decode(errors='replace')[:500]}")
        return response.status


def _folder(document: Document) -> str:
    """The collection that an object belongs to."""
    version: str = document["apiVersion"]
    metadata: dict[str, Any] = document["metadata"]
    plural = KINDS[version.rpartition("/")[0], document["kind"]].plural
    namespace = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"/{'apis' if '/' in version else 'api'}/{version}{namespace}/{plural}"
