"""The Kubernetes cluster as istioctl needs it: which pods, and a way into them.

Requests are made by path and answered as JSON: the typed API of ``kubernetes`` takes 4 s of CPU to import. What is
taken of it is the kubeconfig, with all its ways to log in, and the websockets of exec and port-forward. Imported only
by commands that need a cluster.
"""

from __future__ import annotations

import http
import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubernetes.client import rest
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.stream import ws_client

from istioctl import connection, selectors
from istioctl.errors import CommandError
from istioctl.reach import SECONDS, Address
from istioctl.workload_kinds import PLACES
from wire import names

_REST: Final[Any] = rest  # the library that it asks with raises its own errors
_WEBSOCKETS: Final[Any] = ws_client  # nor are these
PROXY: Final = "istio-proxy"
_RUNNING: Final = "Running"
_PAGE: Final = "500"
_MERGE: Final = "application/merge-patch+json"
_JSON: Final = "application/json"
_DONE: Final = (http.HTTPStatus.OK, http.HTTPStatus.CREATED)
_STDOUT, _STDERR = 1, 2
UNREACHABLE: Final[Any] = _REST.urllib3.exceptions.HTTPError
TROUBLE: Final = (ApiException, UNREACHABLE, OSError, ValueError)

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which cluster: as the global flags say."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    istio_namespace: str = names.ROOT_NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the cluster."""

    name: str
    namespace: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"


class Cluster:
    """A connection to the API server."""

    def __init__(self, options: Options) -> None:
        """Read the kubeconfig, or the pod's own service account where there is none.

        Raises:
            CommandError: neither says where the cluster is.
        """
        self._options = options
        try:
            self._api, self._namespace = connection.connected(options.kubeconfig, options.context)
        except (ConfigException, OSError) as error:
            raise CommandError(f"no Kubernetes cluster: {error}") from error

    def pods(self, text: str) -> list[Pod]:
        """The running pods that POD, POD.NAMESPACE, TYPE/NAME or TYPE/NAME.NAMESPACE means.

        Raises:
            CommandError: there is none; the message names it.
        """
        kind, slash, rest = text.partition("/")
        given = self.namespace
        name, dot, own = (rest if slash else text).partition(".")
        if slash and kind.lower() not in ("pod", "pods", "po"):
            return self._behind(kind, name, own or given)
        candidates = [(name, own)] if dot and not self._options.namespace else [(rest or text, given), (name, own)]
        for pod, where in candidates:
            if where and (found := self._pod(pod, where)):
                return [found]
        raise CommandError(f'pod "{name}" not found in namespace "{own or given}"')

    def istiods(self, revision: str = "") -> list[Pod]:
        """The running control planes.

        Raises:
            CommandError: there is none.
        """
        where = self._options.istio_namespace
        selector = "app=istiod" + (f",{names.LABEL_REVISION}={revision}" if revision else "")
        found = self._selected(where, selector)
        if not found:
            raise CommandError(f'no running Istio pods in "{where}"' + (f" of revision {revision}" if revision else ""))
        return found

    def beside(self, selector: str) -> list[Pod]:
        """The running pods of a label selector in the control plane's namespace.

        Raises:
            CommandError: there is none.
        """
        where = self._options.istio_namespace
        found = self._selected(where, selector)
        if not found:
            raise CommandError(f'no running pods match "{selector}" in namespace "{where}"')
        return found

    def proxies(self, selector: str) -> list[Pod]:
        """The running pods of a label selector.

        Raises:
            CommandError: there is none.
        """
        found = self._selected(self.namespace, selector)
        if not found:
            raise CommandError(f'no running pods match "{selector}" in namespace "{self.namespace}"')
        return found

    @property
    def namespace(self) -> str:
        """The namespace that flags or the kubeconfig name."""
        return self._options.namespace or self._namespace

    def config_map(self, name: str) -> Mapping[str, str]:
        """A ConfigMap of the control plane's namespace.

        Raises:
            CommandError: there is none, or it cannot be read.
        """
        where = self._options.istio_namespace
        path = f"/api/v1/namespaces/{_quoted(where)}/configmaps/{_quoted(name)}"
        return self._there(path, f'ConfigMap "{where}/{name}"').get("data") or {}

    def kubelets(self) -> tuple[str, ...]:
        """Versions of the kubelets of all nodes.

        Raises:
            CommandError: nodes cannot be listed.
        """
        found = self._there("/api/v1/nodes", "nodes").get("items", ())
        return tuple(sorted({each["status"]["nodeInfo"]["kubeletVersion"] for each in found}))

    def annotations(self, namespace: str) -> Mapping[str, str]:
        """Those of a namespace; none where it does not exist yet.

        Raises:
            CommandError: it cannot be read.
        """
        found = self._get(f"/api/v1/namespaces/{_quoted(namespace)}", f'namespace "{namespace}"') or {}
        return found.get("metadata", {}).get("annotations") or {}

    def read(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Json | None:
        """What the API server has at a path: an object or a list; None where there is nothing.

        Raises:
            CommandError: it cannot be had.
        """
        return self._get(path, path, query)

    def merge(self, path: str, change: Json) -> None:
        """Change an object, as a merge patch (RFC 7396) says.

        Raises:
            CommandError: the API server refuses, or cannot be reached.
        """
        if self._asked(f"change {path}", "PATCH", path, change=change) is None:
            raise CommandError(f"cannot change {path}: not found")

    def send(self, method: str, path: str, document: Json | None = None) -> None:
        """POST into a folder, PUT in the place of an object, or DELETE it; one that is gone is nothing to delete.

        Raises:
            CommandError: the API server refuses, or cannot be reached.
        """
        if self._asked(f"{method} {path}", method, path, change=document) is None and method != "DELETE":
            raise CommandError(f"cannot {method} {path}: not found")

    def listed(self, path: str, what: str, query: Sequence[tuple[str, str]] = ()) -> Iterator[Json]:
        """The objects of a list, page by page; none where the API server does not have the kind.

        Raises:
            CommandError: they cannot be listed.
        """
        more = ""
        while True:
            found = self._get(path, what, [*query, ("limit", _PAGE), *([("continue", more)] if more else [])]) or {}
            yield from found.get("items") or ()
            more = (found.get("metadata") or {}).get("continue", "")
            if not more:
                return

    def _there(self, path: str, what: str) -> Json:
        found = self._get(path, what)
        if found is None:
            raise CommandError(f"cannot read {what}: not found")
        return found

    def admin(self, pod: Pod) -> PodAdmin:
        """Envoy's admin interface in a pod."""
        return PodAdmin(self, pod)

    def page(self, pod: Pod, port: int) -> Address:
        """A port of a pod, through the API server."""
        return Address(str(pod), lambda: self._forwarded(pod, port))

    def run(self, pod: Pod, command: Sequence[str]) -> bytes:
        """What a command in the pod's proxy writes.

        Raises:
            CommandError: it cannot be run, or fails; with what it said.
        """
        streams = [(stream, "true") for stream in ("stdout", "stderr")]
        query = [("command", list(command)), ("container", PROXY), *streams]
        url, headers, _ = self._request("GET", f"{_path(pod)}/exec")
        try:
            done = _WEBSOCKETS.websocket_call(
                self._api.configuration,
                "GET",
                url,
                query_params=query,
                headers=headers,
                binary=True,
                _preload_content=False,
            )
            done.run_forever(timeout=SECONDS)
            out, err, code = done.read_channel(_STDOUT), done.read_channel(_STDERR), done.returncode
        except TROUBLE as error:
            raise CommandError(f"cannot run {command[0]} in {pod}: {reason_of(error)}") from error
        if code is None:
            raise CommandError(f"{pod}: {command[0]} did not end within {SECONDS:g} s")
        if code != 0:
            said = _text(err).decode(errors="replace").strip()
            raise CommandError(f"{pod}: {said or f'{command[0]} ended with {code}'}")
        return _text(out)

    def tunnel(self, pod: Pod, port: int) -> socket.socket:
        """A connection to a port of a pod, through the API server.

        Raises:
            CommandError: it cannot be had.
        """
        url, headers, _ = self._request("GET", f"{_path(pod)}/portforward")
        try:
            made = _WEBSOCKETS.portforward_call(
                self._api.configuration, "GET", url, query_params=[("ports", str(port))], headers=headers
            )
            found: socket.socket = made.socket(port)
        except TROUBLE as error:
            raise CommandError(f"cannot forward port {port} of {pod}: {reason_of(error)}") from error
        return found

    def _forwarded(self, pod: Pod, port: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", port, timeout=SECONDS)
        connection.sock = self.tunnel(pod, port)
        connection.sock.settimeout(SECONDS)
        return connection

    def _request(
        self, method: str, path: str, query: Sequence[tuple[str, str]] = (), change: Json | None = None
    ) -> tuple[str, dict[str, str], Any]:
        """The URL of a path, headers with the proof of who asks, and the body."""
        kind = _MERGE if method == "PATCH" else _JSON
        headers = {"Accept": _JSON} | ({"Content-Type": kind} if change is not None else {})
        _, url, sent, body, *_ = self._api.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=change, auth_settings=["BearerToken"]
        )
        return url, dict(sent), body

    def _get(self, path: str, what: str, query: Sequence[tuple[str, str]] = ()) -> Json | None:
        """An object or a list; None where there is none of that name."""
        return self._asked(f"get {what}", "GET", path, query)

    def _asked(
        self, deed: str, method: str, path: str, query: Sequence[tuple[str, str]] = (), change: Json | None = None
    ) -> Json | None:
        try:
            url, headers, sent = self._request(method, path, query, change)
            answer: Any = self._api.call_api(method, url, header_params=headers, body=sent, _request_timeout=SECONDS)
            body: bytes = answer.read()
            if answer.status == http.HTTPStatus.NOT_FOUND:
                return None  # of a kind that the cluster has not, the body is no JSON
            found: Json = json.loads(body)
        except UNREACHABLE as error:
            raise CommandError(f"cannot reach the cluster: {reason_of(error)}") from error
        except TROUBLE as error:
            raise CommandError(f"cannot {deed}: {reason_of(error)}") from error
        if answer.status not in _DONE:
            raise CommandError(f"cannot {deed}: {found.get('message') or answer.status}")
        return found

    def _pod(self, name: str, namespace: str) -> Pod | None:
        asked = Pod(name=name, namespace=namespace)
        found = self._get(_path(asked), f'pod "{name}" in namespace "{namespace}"')
        return _pod_of(found) if found else None

    def _behind(self, kind: str, name: str, namespace: str) -> list[Pod]:
        known = PLACES.get(kind.lower()) or PLACES.get(kind.lower().removesuffix("s"))
        if known is None:
            raise CommandError(f'"{kind}" does not refer to pods; use a pod, deployment, service, ...')
        what = f'{kind} "{name}" in namespace "{namespace}"'
        found = self._get(f"{known[0]}/namespaces/{_quoted(namespace)}/{known[1]}/{_quoted(name)}", what)
        if found is None:
            raise CommandError(f'{kind} "{name}" not found in namespace "{namespace}"')
        pods = self._selected(namespace, selectors.text(found.get("spec", {}).get("selector") or {}))
        if not pods:
            raise CommandError(f"{what} has no running pod")
        return pods

    def _selected(self, namespace: str, selector: str) -> list[Pod]:
        if not selector:
            return []
        path = f"/api/v1/namespaces/{_quoted(namespace)}/pods"
        found = self._get(path, f'pods of namespace "{namespace}"', [("labelSelector", selector)]) or {}
        return sorted((_pod_of(each) for each in found.get("items", ()) if _runs(each)), key=str)


class PodAdmin:
    """Envoy's admin interface in a pod, asked by the agent beside it: it is open to the pod only."""

    def __init__(self, cluster: Cluster, pod: Pod) -> None:
        self.name = str(pod)
        self._cluster = cluster
        self._pod = pod

    def ask(self, path: str, method: str = "GET") -> bytes:
        """The answer's body.

        Raises:
            CommandError: the pod cannot be reached, has no proxy, or Envoy refuses.
        """
        return self._cluster.run(self._pod, ("pilot-agent", "request", method, path))


def _path(pod: Pod) -> str:
    return f"/api/v1/namespaces/{_quoted(pod.namespace)}/pods/{_quoted(pod.name)}"


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _pod_of(found: Json) -> Pod:
    metadata = found["metadata"]
    revision = (metadata.get("labels") or {}).get(names.LABEL_REVISION, "")
    return Pod(name=metadata["name"], namespace=metadata["namespace"], revision=revision)


def _runs(found: Json) -> bool:
    return found.get("status", {}).get("phase") == _RUNNING and "deletionTimestamp" not in found["metadata"]


def _text(read: Any) -> bytes:
    return read if isinstance(read, bytes) else str(read or "").encode()


def reason_of(error: Exception) -> str:
    """What the API server said, without headers and JSON around it."""
    if not isinstance(error, ApiException):
        return str(error) or type(error).__name__
    reason = str(error.reason or "").strip()
    for text in (error.body or "", reason[reason.find('{"') :]):  # a refused upgrade has the body in its reason
        try:
            if said := str(json.loads(text)["message"]):
                return said
        except (ValueError, RecursionError, KeyError, TypeError):
            continue
    return f"{error.status or ''} {reason.partition(chr(10))[0] or 'no reason given'}".strip()
