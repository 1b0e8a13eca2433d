"""The Kubernetes cluster as istioctl needs it: which pods, and a way into them.

Imports ``kubernetes``, which is slow, so commands import this module only when they need a cluster.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import urllib3.exceptions
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.stream import portforward, stream

from istioctl.errors import CommandError
from istioctl.reach import SECONDS, Address
from wire import names

_CONFIG: Final[Any] = config  # its functions are not typed
PROXY: Final = "istio-proxy"
_RUNNING: Final = "Running"
_STDOUT, _STDERR = 1, 2
_WORKLOADS: Final[Mapping[str, tuple[str, str]]] = {
    "deployment": ("AppsV1Api", "deployment"),
    "deploy": ("AppsV1Api", "deployment"),
    "replicaset": ("AppsV1Api", "replica_set"),
    "rs": ("AppsV1Api", "replica_set"),
    "statefulset": ("AppsV1Api", "stateful_set"),
    "sts": ("AppsV1Api", "stateful_set"),
    "daemonset": ("AppsV1Api", "daemon_set"),
    "ds": ("AppsV1Api", "daemon_set"),
    "job": ("BatchV1Api", "job"),
    "service": ("CoreV1Api", "service"),
    "svc": ("CoreV1Api", "service"),
}
"""What may stand before a name, and where the API has it; plurals are understood too."""


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
            self._api, self._namespace = _connected(options)
        except (ConfigException, OSError) as error:
            raise CommandError(f"no Kubernetes cluster: {error}") from error
        self._core = client.CoreV1Api(self._api)

    def pods(self, text: str, namespace: str = "") -> list[Pod]:
        """The running pods that POD, POD.NAMESPACE, TYPE/NAME or TYPE/NAME.NAMESPACE means.

        Raises:
            CommandError: there is none; the message names it.
        """
        kind, slash, rest = text.partition("/")
        given = namespace or self._options.namespace or self._namespace
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

    def proxies(self, selector: str, namespace: str = "") -> list[Pod]:
        """The running pods of a label selector.

        Raises:
            CommandError: there is none.
        """
        where = namespace or self._options.namespace or self._namespace
        found = self._selected(where, selector)
        if not found:
            raise CommandError(f'no running pods match "{selector}" in namespace "{where}"')
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
        found = self._asked(f'ConfigMap "{where}/{name}"', lambda: self._core.read_namespaced_config_map(name, where))
        return found.data or {}

    def kubelets(self) -> tuple[str, ...]:
        """Versions of the kubelets of all nodes.

        Raises:
            CommandError: nodes cannot be listed.
        """
        found = self._asked("nodes", self._core.list_node).items
        return tuple(sorted({each.status.node_info.kubelet_version for each in found}))

    def annotations(self, namespace: str) -> Mapping[str, str]:
        """Those of a namespace.

        Raises:
            CommandError: there is none, or it cannot be read.
        """
        found = self._asked(f'namespace "{namespace}"', lambda: self._core.read_namespace(namespace))
        return found.metadata.annotations or {}

    def _asked(self, what: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise CommandError(f"cannot read {what}: {_reason(error)}") from error

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
        options = {"container": PROXY, "stdin": False, "stdout": True, "stderr": True, "tty": False}
        try:
            done = stream(
                self._core.connect_get_namespaced_pod_exec,
                pod.name,
                pod.namespace,
                command=list(command),
                _preload_content=False,
                binary=True,
                **options,
            )
            done.run_forever(timeout=SECONDS)
            out, err, code = done.read_channel(_STDOUT), done.read_channel(_STDERR), done.returncode
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise CommandError(f"cannot run {command[0]} in {pod}: {_reason(error)}") from error
        if code != 0:
            said = _text(err).decode(errors="replace").strip()
            raise CommandError(f"{pod}: {said or f'{command[0]} ended with {code}'}")
        return _text(out)

    def _forwarded(self, pod: Pod, port: int) -> http.client.HTTPConnection:
        try:
            tunnel = portforward(
                self._core.connect_get_namespaced_pod_portforward, pod.name, pod.namespace, ports=str(port)
            )
            connection = http.client.HTTPConnection("localhost", port, timeout=SECONDS)
            connection.sock = tunnel.socket(port)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise CommandError(f"cannot forward port {port} of {pod}: {_reason(error)}") from error
        connection.sock.settimeout(SECONDS)
        return connection

    def _pod(self, name: str, namespace: str) -> Pod | None:
        try:
            found = self._core.read_namespaced_pod(name, namespace)
        except ApiException as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise CommandError(f'cannot get pod "{name}" in namespace "{namespace}": {_reason(error)}') from error
        except urllib3.exceptions.HTTPError as error:
            raise CommandError(f"cannot reach the cluster: {_reason(error)}") from error
        return _pod_of(found)

    def _behind(self, kind: str, name: str, namespace: str) -> list[Pod]:
        known = _WORKLOADS.get(kind.lower()) or _WORKLOADS.get(kind.lower().removesuffix("s"))
        if known is None:
            raise CommandError(f'"{kind}" does not refer to pods; use a pod, deployment, service, ...')
        api = getattr(client, known[0])(self._api)
        try:
            found = getattr(api, f"read_namespaced_{known[1]}")(name, namespace)
        except ApiException as error:
            raise CommandError(f'cannot get {kind} "{name}" in namespace "{namespace}": {_reason(error)}') from error
        except urllib3.exceptions.HTTPError as error:
            raise CommandError(f"cannot reach the cluster: {_reason(error)}") from error
        pods = self._selected(namespace, _selector(found.spec.selector))
        if not pods:
            raise CommandError(f'{kind} "{name}" in namespace "{namespace}" has no running pod')
        return pods

    def _selected(self, namespace: str, selector: str) -> list[Pod]:
        if not selector:
            return []
        try:
            found: list[Any] = self._core.list_namespaced_pod(namespace, label_selector=selector).items
        except ApiException as error:
            raise CommandError(f'cannot list pods in namespace "{namespace}": {_reason(error)}') from error
        except urllib3.exceptions.HTTPError as error:
            raise CommandError(f"cannot reach the cluster: {_reason(error)}") from error
        running = (each for each in found if each.status.phase == _RUNNING and not each.metadata.deletion_timestamp)
        return sorted((_pod_of(each) for each in running), key=str)


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


def _connected(options: Options) -> tuple[client.ApiClient, str]:
    """A client, and the namespace that the context or the pod's service account names."""
    try:
        contexts, active = _CONFIG.list_kube_config_contexts(options.kubeconfig or None)
    except ConfigException:
        if options.kubeconfig or options.context:
            raise
        try:
            _CONFIG.load_incluster_config()
        except ConfigException as error:
            raise ConfigException(
                "there is no kubeconfig (--kubeconfig, ~/.kube/config), and this is no pod"
            ) from error
        return client.ApiClient(), "default"
    chosen = next((each for each in contexts if each["name"] == options.context), None) if options.context else active
    if chosen is None:
        raise ConfigException(f'context "{options.context}" does not exist')
    made: client.ApiClient = _CONFIG.new_client_from_config(options.kubeconfig or None, options.context or None)
    return made, chosen["context"].get("namespace") or "default"


def _pod_of(found: Any) -> Pod:
    labels = found.metadata.labels or {}
    revision = labels.get(names.LABEL_REVISION, "")
    return Pod(name=found.metadata.name, namespace=found.metadata.namespace, revision=revision)


def _selector(found: Any) -> str:
    """A selector as text: a Service's map, or the labels (and expressions) of workloads."""
    if isinstance(found, Mapping):
        return ",".join(f"{key}={value}" for key, value in found.items())
    return ",".join(_requirements(found)) if found else ""


def _requirements(found: Any) -> Iterator[str]:
    yield from (f"{key}={value}" for key, value in (found.match_labels or {}).items())
    for each in found.match_expressions or ():
        values = f"({','.join(each.values or ())})"
        written = {"In": f"{each.key} in {values}", "NotIn": f"{each.key} notin {values}", "Exists": each.key}
        yield written.get(each.operator, f"!{each.key}")


def _text(read: Any) -> bytes:
    return read if isinstance(read, bytes) else str(read or "").encode()


def _reason(error: Exception) -> str:
    """What the API server said, without headers and JSON around it."""
    if isinstance(error, ApiException):
        try:
            return str(json.loads(error.body or "")["message"])
        except (ValueError, KeyError, TypeError):
            lines = str(error.reason or "").strip().splitlines()
            return f"{error.status or ''} {lines[0] if lines else 'no reason given'}".strip()
    return str(error) or type(error).__name__
