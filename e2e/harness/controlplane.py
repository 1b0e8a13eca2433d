"""A real Kubernetes API server with etcd, and on request its controllers and scheduler: no root, no node, own ports.

Several can run at once on a machine. Started in some 3 s; ``controllers=True`` adds what makes service accounts,
EndpointSlices, ReplicaSets and garbage collection real, and waits until the namespace ``default`` has its account.
Without it a namespace can be made but never removed.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.harness import pki as certificates
from e2e.harness import tools
from e2e.harness.pki import Pki
from e2e.harness.ports import free_ports
from e2e.harness.process import ClusterError, Program, running, wait

NODE: Final = "e2e-node"
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
AUDIENCE: Final = "istio-ca"  # of the tokens that proxies show to istiod
SERVICES: Final = "10.96.0.0/16"
PODS: Final = "10.244.0.0/16"
_FIRST_SERVICE: Final = "10.96.0.1"  # kubernetes.default
_PATIENCE: Final = 330  # seconds: more than helm's own 5 minutes, so that it can say what it waits for
_UNUSED: Final = ("nodeipam", "cloud-node-lifecycle-controller", "service-lb-controller", "node-route-controller")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running API server as a client sees it.

    Attributes:
        kubeconfig: an administrator's.
        server: the API server's URL.
        home: logs, one per program, among what else the cluster keeps.
        namespace: the network namespace in which its addresses are reachable; None for the machine's own.
    """

    kubeconfig: Path
    server: str
    tools: tools.Tools
    home: Path
    namespace: Path | None = None

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What a kubectl command prints.

        Raises:
            ClusterError: it fails; the message is what it says.
        """
        done = self.call("kubectl", *arguments, stdin=stdin)
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def call(self, program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``kubectl`` or ``helm`` against this cluster; the caller looks at the exit code.

        Raises:
            ClusterError: it does not end within some minutes.
        """
        enter = [] if self.namespace is None else ["nsenter", f"--net={self.namespace}", "--"]
        try:
            return subprocess.run(
                [*enter, self.tools[program], *arguments],
                input=stdin,
                env=self.environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{program} {' '.join(arguments)}: not within {_PATIENCE} s") from error

    def environment(self) -> dict[str, str]:
        """Environment of a client: no setting of the user's own reaches it but HOME, which is the cluster's."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.home),
            "PATH": f"{self.tools.folder}:/usr/bin:/bin",
        }

    def apply(self, text: str, namespace: str = "default") -> None:
        """Apply YAML or JSON, server-side."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-", stdin=text)

    def get(self, *arguments: str) -> Any:
        """``kubectl get ARGUMENTS -o json``, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def token(self, account: str, namespace: str, audience: str = AUDIENCE) -> str:
        """A token of a service account, as the kubelet would give it to a pod."""
        return self.kubectl("create", "token", account, "-n", namespace, f"--audience={audience}").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the parts listen, on 127.0.0.1; with a node the API server listens on all addresses."""

    api: int
    etcd: int
    peer: int
    controllers: int
    scheduler: int

    @staticmethod
    def free() -> Ports:
        """Ports that nobody uses now."""
        api, etcd, peer, controllers, scheduler = free_ports(5)
        return Ports(api=api, etcd=etcd, peer=peer, controllers=controllers, scheduler=scheduler)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """All that the command lines of one control plane are made of."""

    tools: tools.Tools
    home: Path
    pki: Pki
    ports: Ports
    address: str

    @contextmanager
    def program(self, name: str, flags: Mapping[str, str]) -> Iterator[Program]:
        command = [self.tools[name], *(f"--{key}={value}" for key, value in flags.items())]
        with running(name, command, self.home / f"{name}.log") as program:
            yield program


@contextmanager
def control_plane(
    *, controllers: bool = True, address: str = "127.0.0.1", flags: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """A control plane until the block ends, with everything in a temporary folder.

    Args:
        controllers: also run the controller manager and the scheduler.
        address: where others are told to find the API server; pods cannot reach 127.0.0.1.
        flags: of the API server, beside or instead of ours; names without dashes.

    Raises:
        ClusterError: a part ends or does not become ready within a minute.
        tools.MissingProgramError: the programs are neither there nor can be built.
    """
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="e2e-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        yield stack.enter_context(start(home, tools.find(), controllers=controllers, address=address, flags=flags))


@contextmanager
def start(
    home: Path,
    programs: tools.Tools,
    *,
    controllers: bool,
    address: str = "127.0.0.1",
    flags: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """As ``control_plane``, in a folder of the caller's: keys in ``home/pki``, one log per program."""
    ports = Ports.free()
    server = f"https://127.0.0.1:{ports.api}"
    addresses = {_FIRST_SERVICE, address} - {"127.0.0.1"}
    pki = certificates.make(home / "pki", server, NODE, sorted(addresses))
    plan = _Plan(tools=programs, home=home, pki=pki, ports=ports, address=address)
    cluster = Cluster(kubeconfig=pki.kubeconfig("admin"), server=server, tools=programs, home=home)
    with ExitStack() as stack:
        # The API server ends first: it waits for an etcd that has gone.
        parts = [stack.enter_context(plan.program("etcd", _etcd(plan)))]
        parts.append(stack.enter_context(plan.program("kube-apiserver", {**_api_server(plan), **(flags or {})})))
        wait("API server ready", lambda: _answers(plan, "/readyz"), parts)
        if controllers:
            parts.append(stack.enter_context(plan.program("kube-controller-manager", _controllers(plan))))
            parts.append(stack.enter_context(plan.program("kube-scheduler", _scheduler(plan))))
            wait("first service account", lambda: _answers(plan, _ACCOUNT) and _answers(plan, _ROOT), parts)
        yield cluster


_ACCOUNT: Final = "/api/v1/namespaces/default/serviceaccounts/default"
_ROOT: Final = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"


def _answers(plan: _Plan, path: str) -> bool:
    """Whether the API server answers 200."""
    context = ssl.create_default_context(cafile=plan.pki.crt("ca"))
    context.load_cert_chain(plan.pki.crt("admin"), plan.pki.key("admin"))
    connection = http.client.HTTPSConnection("127.0.0.1", plan.ports.api, context=context, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _etcd(plan: _Plan) -> dict[str, str]:
    client, peer = f"http://127.0.0.1:{plan.ports.etcd}", f"http://127.0.0.1:{plan.ports.peer}"
    return {
        "name": "e2e",
        "data-dir": str(plan.home / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"e2e={peer}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }


def _api_server(plan: _Plan) -> dict[str, str]:
    pki = plan.pki
    # Where pods must reach it, by the node's address, it listens as it does by default: everywhere.
    bound = {"bind-address": plan.address} if plan.address == "127.0.0.1" else {}
    return {
        **bound,
        "etcd-servers": f"http://127.0.0.1:{plan.ports.etcd}",
        "secure-port": str(plan.ports.api),
        "advertise-address": plan.address,
        "endpoint-reconciler-type": "none" if plan.address == "127.0.0.1" else "lease",
        "kubelet-preferred-address-types": "InternalIP",
        "client-ca-file": pki.crt("ca"),
        "tls-cert-file": pki.crt("apiserver"),
        "tls-private-key-file": pki.key("apiserver"),
        "kubelet-client-certificate": pki.crt("apiserver-kubelet-client"),
        "kubelet-client-key": pki.key("apiserver-kubelet-client"),
        "service-account-issuer": ISSUER,
        "api-audiences": f"{ISSUER},{AUDIENCE}",
        "service-account-key-file": str(pki.folder / "sa.pub"),
        "service-account-signing-key-file": pki.key("sa"),
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-cluster-ip-range": SERVICES,
        "allow-privileged": "true",
        "requestheader-client-ca-file": pki.crt("front-ca"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki.crt("front-client"),
        "proxy-client-key-file": pki.key("front-client"),
    }


def _client(plan: _Plan, name: str) -> dict[str, str]:
    kubeconfig = str(plan.pki.kubeconfig(name))
    flags = dict.fromkeys(("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"), kubeconfig)
    return {**flags, "bind-address": "127.0.0.1", "leader-elect": "false"}


def _controllers(plan: _Plan) -> dict[str, str]:
    return {
        **_client(plan, "kube-controller-manager"),
        "secure-port": str(plan.ports.controllers),
        "service-account-private-key-file": plan.pki.key("sa"),
        "root-ca-file": plan.pki.crt("ca"),
        "cluster-signing-cert-file": plan.pki.crt("ca"),
        "cluster-signing-key-file": plan.pki.key("ca"),
        "use-service-account-credentials": "true",
        "allocate-node-cidrs": "false",
        "cluster-cidr": PODS,
        "service-cluster-ip-range": SERVICES,
        "controllers": ",".join(["*", *(f"-{name}" for name in _UNUSED)]),
    }


def _scheduler(plan: _Plan) -> dict[str, str]:
    return {**_client(plan, "kube-scheduler"), "secure-port": str(plan.ports.scheduler)}
