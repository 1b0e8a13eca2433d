"""A plain client of a test's API server, for the two things that kubectl cannot do fast: thousands of dry runs."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from e2e.harness.controlplane import Cluster


class Api:
    """One connection of an administrator."""

    def __init__(self, connection: http.client.HTTPSConnection) -> None:
        self._connection = connection
        self._served: dict[tuple[str, str], tuple[str, bool]] = {}

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and parsed body of an answer; an empty one where the server says nothing in JSON."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._connection.request(method, path, json.dumps(body, default=str) if body is not None else None, headers)
        answer = self._connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if "json" in answer.headers["Content-Type"] else {}

    def served(self, version: str, kind: str) -> tuple[str, bool] | None:
        """(path's last part, whether it has a namespace) of a kind; None where the server does not know it."""
        base = self._base(version)
        if (version, kind) not in self._served:
            _, found = self.call("GET", base)
            for each in found.get("resources", []):
                if "/" not in each["name"]:
                    self._served[version, each["kind"]] = (each["name"], each["namespaced"])
        return self._served.get((version, kind))

    def refusal(self, document: Mapping[str, Any], *, strict: bool = True) -> str:
        """Why the server would not take an object, "" where it would. Nothing is stored.

        ``strict`` refuses unknown and repeated fields, which otherwise are cut off.
        """
        found = self.served(document["apiVersion"], document["kind"])
        assert found is not None, f"{document['kind']} of {document['apiVersion']} is not served"
        plural, namespaced = found
        metadata = {key: value for key, value in document["metadata"].items() if key != "namespace"}
        place = f"namespaces/default/{plural}" if namespaced else plural
        query = f"dryRun=All&fieldValidation={'Strict' if strict else 'Ignore'}"
        path = f"{self._base(document['apiVersion'])}/{place}?{query}"
        status, answer = self.call("POST", path, {**document, "metadata": metadata})
        return "" if status == http.HTTPStatus.CREATED else str(answer["message"])

    @staticmethod
    def _base(version: str) -> str:
        return f"/apis/{version}" if "/" in version else f"/api/{version}"


@contextmanager
def connect(cluster: Cluster) -> Iterator[Api]:
    """A client of the cluster's administrator."""
    keys = cluster.kubeconfig.parent
    context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
    connection = http.client.HTTPSConnection(cluster.server.removeprefix("https://"), context=context, timeout=30)
    try:
        yield Api(connection)
    finally:
        connection.close()
