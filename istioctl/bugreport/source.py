"""A cluster as a report reads it: as every command does, and the logs of containers, which are no JSON."""

from __future__ import annotations

import http
import urllib.parse
from collections.abc import Sequence
from typing import Any

from istioctl import cluster
from istioctl.errors import CommandError
from istioctl.reach import SECONDS


class Source(cluster.Cluster):
    """A connection to the API server, used by several threads."""

    def log(self, pod: cluster.Pod, query: Sequence[tuple[str, str]]) -> bytes:
        """What a container has written.

        Raises:
            CommandError: it cannot be had.
        """
        namespace, name = (urllib.parse.quote(each, safe="") for each in (pod.namespace, pod.name))
        url, headers, _ = self._request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log", query)
        headers["Accept"] = "*/*"
        try:
            answer: Any = self._api.call_api("GET", url, header_params=headers, _request_timeout=SECONDS)
            body: bytes = answer.read()
        except cluster.TROUBLE as error:
            raise CommandError(f"cannot read the log of {pod}: {cluster.reason_of(error)}") from error
        except cluster.UNREACHABLE as error:
            raise CommandError(f"cannot reach the cluster: {error}") from error
        if answer.status != http.HTTPStatus.OK:
            raise CommandError(f"cannot read the log of {pod}: {answer.status} {body[:200].decode(errors='replace')}")
        return body
