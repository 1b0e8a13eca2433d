"""The inside of a sandbox: network, containerd, control plane, kube-proxy, kubelet, DNS, until it is killed.

Runs as the first process of namespaces of its own (e2e.harness.sandbox starts it so), as root. All addresses are the
same in every cluster: 10.244.0.1 is the node, 10.244.1.0/24 its pods, 10.96.0.0/16 Services. Writes the file ``ready``
with the API server's URL once pods can run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from e2e.harness import controlplane, images, tools
from e2e.harness.controlplane import NODE, Cluster
from e2e.harness.process import ClusterError, Program, running, wait

ADDRESS: Final = "10.244.0.1"
DNS: Final = "10.96.0.10"
_PODS: Final = "10.244.1.0/24"
_DATA: Final = Path(__file__).parent / "data"


def main(home: Path, folder: Path) -> None:
    """Start everything, write ``ready``, and sleep."""
    programs = tools.Tools(folder=folder)
    with ExitStack() as stack:
        _prepare(home)
        containerd = _containerd(stack, home)
        there = stack.enter_context(controlplane.start(home, programs, controllers=True, address=ADDRESS))
        _kube_proxy(stack, home, programs)
        _import_images(home)
        kubelet = _kubelet(stack, home, programs)
        wait("node ready", lambda: _is_ready(there), [containerd, kubelet])
        there.kubectl("apply", "-f", "-", stdin=_dns(programs))
        there.kubectl("rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=60s")
        (home / "ready.new").write_text(there.server)
        (home / "ready.new").rename(home / "ready")
        while True:
            signal.pause()


def _prepare(home: Path) -> None:
    """Mounts and addresses of this namespace."""
    for name in ("containerd", "kubelet", "cni", "cni/net.d"):
        (home / name).mkdir()
    _run("mount", "--make-rshared", "/")
    Path("/run/netns").mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    _run("mount", "-t", "tmpfs", "-o", "size=6g", "tmpfs", str(home / "containerd"))
    _run("mount", "--bind", str(home / "kubelet"), str(home / "kubelet"))
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    # Without it only pods reach Services: the node has no other route for them.
    _run("ip", "route", "add", controlplane.SERVICES, "dev", "lo", "src", ADDRESS)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _containerd(stack: ExitStack, home: Path) -> Program:
    _write(home / "cni" / "net.d" / "10-e2e.conflist", _network(home))
    config = (_DATA / "containerd.toml").read_text().replace("@HOME@", str(home)).replace("@PAUSE@", images.PAUSE)
    (home / "containerd.toml").write_text(config)
    command = ["containerd", "-c", str(home / "containerd.toml")]
    program = stack.enter_context(running("containerd", command, home / "containerd.log"))
    wait("containerd", (home / "containerd" / "containerd.sock").exists, [program])
    return program


def _import_images(home: Path) -> None:
    socket = str(home / "containerd" / "containerd.sock")
    _run("ctr", "-a", socket, "-n", "k8s.io", "images", "import", str(home / "images.tar"))
    (home / "images.tar").unlink()


def _network(home: Path) -> dict[str, Any]:
    """Routed pairs of interfaces, no bridge: nothing of the kernel's bridge filtering is needed."""
    addresses = {
        "type": "host-local",
        "dataDir": str(home / "cni" / "ipam"),
        "ranges": [[{"subnet": _PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    pair = {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "e2e", "plugins": [pair, ports]}


def _kube_proxy(stack: ExitStack, home: Path, programs: tools.Tools) -> None:
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(home / "pki" / "kube-proxy.kubeconfig")},
        "bindAddress": "127.0.0.1",
        "mode": "nftables",
        "clusterCIDR": controlplane.PODS,
        "hostnameOverride": NODE,
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": ["127.0.0.0/8"],
    }
    _write(home / "kube-proxy.json", settings)
    command = [programs["kube-proxy"], "--config", str(home / "kube-proxy.json")]
    stack.enter_context(running("kube-proxy", command, home / "kube-proxy.log"))


def _kubelet(stack: ExitStack, home: Path, programs: tools.Tools) -> Program:
    """The kubelet, with cgroups below one of this cluster's own: it kills what it does not know in its own."""
    for controller in _cgroup_roots():
        (controller / home.name).mkdir(exist_ok=True)
    settings = json.loads((_DATA / "kubelet.json").read_text())
    settings |= {
        "cgroupRoot": f"/{home.name}",
        "clusterDNS": [DNS],
        "containerRuntimeEndpoint": f"unix://{home}/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(home / "pki" / "ca.crt")},
        },
        "tlsCertFile": str(home / "pki" / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(home / "pki" / "kubelet-server.key"),
        "podLogsDir": str(home / "kubelet" / "podlogs"),
    }
    _write(home / "kubelet.json", settings)
    flags = {
        "config": home / "kubelet.json",
        "kubeconfig": home / "pki" / "kubelet.kubeconfig",
        "hostname-override": NODE,
        "node-ip": ADDRESS,
        "root-dir": home / "kubelet",
        "cert-dir": home / "kubelet" / "pki",
    }
    command = [programs["kubelet"], *(f"--{name}={value}" for name, value in flags.items())]
    return stack.enter_context(running("kubelet", command, home / "kubelet.log"))


def _cgroup_roots() -> list[Path]:
    """Where cgroups are made: each controller's tree in version 1, the one tree in version 2."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return [path for path in root.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def _is_ready(there: Cluster) -> bool:
    """Whether pods can be scheduled: a new node is tainted until the controllers have seen it ready."""
    nodes = there.get("nodes")["items"]
    return bool(nodes) and not nodes[0]["spec"].get("taints") and _condition(nodes[0], "Ready")


def _condition(item: dict[str, Any], kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in item["status"].get("conditions", []))


def _dns(programs: tools.Tools) -> str:
    """CoreDNS as a Deployment: the executable comes from the node's disk, so that no image has to hold it."""
    text = (_DATA / "dns.yaml").read_text()
    return text.replace("@TOOLS@", str(programs.folder)).replace("@IMAGE@", images.PAUSE).replace("@ADDRESS@", DNS)


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=1))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")


if __name__ == "__main__":
    os.chdir("/")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
