"""helm install, upgrade and uninstall in a real API server, and istiod with the rights that the chart gives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crds.schema import definition
from e2e.harness.controlplane import Cluster, control_plane
from e2e.harness.ports import free_ports
from e2e.harness.process import Program, running, wait
from istioctl import __main__ as istioctl
from tests.charts import helm

pytestmark = pytest.mark.apiserver

ISTIOD = ("charts/istiod", "-n", helm.SYSTEM, "--wait=hookOnly")
ACCOUNT = f"system:serviceaccount:{helm.SYSTEM}:istiod"
VALIDATOR = "istio-validator-istio-system"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """An API server of our own: definitions that helm brings must not be there before."""
    with control_plane() as made:
        made.kubectl("create", "namespace", helm.SYSTEM)
        yield made


def run(cluster: Cluster, *arguments: str) -> str:
    done = subprocess.run(
        [cluster.tools["helm"], *arguments],
        cwd=helm.ROOT,
        env=cluster.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# One step after the other, each paid for by the first test that needs it; the last test takes everything away.


@pytest.fixture(scope="module")
def before(cluster: Cluster) -> set[str]:
    return everything(cluster)


@pytest.fixture(scope="module")
def base(cluster: Cluster, before: set[str]) -> set[str]:
    run(cluster, "install", "istio-base", "charts/base", "-n", helm.SYSTEM)
    return before


@pytest.fixture(scope="module")
def istiod(cluster: Cluster, base: set[str]) -> set[str]:
    run(cluster, "install", "istiod", *ISTIOD)
    return base


@pytest.fixture(scope="module")
def installed(cluster: Cluster, istiod: set[str]) -> set[str]:
    """All charts, with two revisions of istiod; gives what was there before."""
    run(cluster, "install", "canary", *ISTIOD, "--set", "revision=canary,revisionTags={prod}")
    run(cluster, "install", "istio-ingressgateway", "charts/gateway", "-n", helm.SYSTEM)
    return istiod


def everything(cluster: Cluster) -> set[str]:
    """kind/namespace/name of all objects that a chart can have made."""
    kinds = cluster.kubectl("api-resources", "--verbs=list,create", "-o", "name").split()
    skipped = {"events", "events.events.k8s.io", "leases.coordination.k8s.io", "apiservices.apiregistration.k8s.io"}
    found = cluster.get(",".join(kind for kind in kinds if kind not in skipped), "-A")["items"]
    return {
        f"{each['kind']}/{each['metadata'].get('namespace', '')}/{each['metadata']['name']}"
        for each in found
        if not each["metadata"].get("ownerReferences")
    }


def test_the_namespace_of_the_control_plane_begins_empty(before: set[str]) -> None:
    assert f"ConfigMap/{helm.SYSTEM}/istio" not in before


def test_base_serves_istios_kinds(cluster: Cluster, base: set[str]) -> None:
    assert not [each for each in base if each.startswith("CustomResourceDefinition")]
    short = "vs,dr,gw,se,we,wg,ap,pa,ra,telemetry"
    # Discovery follows the definitions a moment later.
    wait("kinds are found", lambda: cluster.call("kubectl", "get", short, "-A").returncode == 0)


@pytest.mark.usefixtures("istiod")
def test_an_upgrade_keeps_what_istiod_wrote_into_its_webhooks(cluster: Cluster) -> None:
    patch = [
        {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": root(cluster)},
        {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"},
    ]
    for kind, name in (("validating", VALIDATOR), ("mutating", "istio-sidecar-injector")):
        body = json.dumps(patch if kind == "validating" else patch[:1])
        cluster.kubectl("patch", f"{kind}webhookconfiguration", name, "--type=json", "-p", body)

    run(cluster, "upgrade", "istiod", *ISTIOD, "--set", "pilot.env.PILOT_HTTP10=true")

    validator = cluster.get("validatingwebhookconfiguration", VALIDATOR)["webhooks"][0]
    injector = cluster.get("mutatingwebhookconfiguration", "istio-sidecar-injector")["webhooks"][0]
    assert validator["failurePolicy"] == "Fail"
    assert validator["clientConfig"]["caBundle"] == root(cluster)
    assert injector["clientConfig"]["caBundle"] == root(cluster)


@pytest.mark.usefixtures("istiod")
def test_an_upgrade_keeps_the_number_of_replicas_that_the_autoscaler_chose(cluster: Cluster) -> None:
    cluster.kubectl("scale", "deployment/istiod", "-n", helm.SYSTEM, "--replicas=4")

    run(cluster, "upgrade", "istiod", *ISTIOD, "--set", "pilot.env.PILOT_HTTP10=false")

    assert cluster.get("deployment", "istiod", "-n", helm.SYSTEM)["spec"]["replicas"] == 4


def written(kind: str, spec: object, revision: str = "") -> str:
    groups = {
        "EnvoyFilter": "networking.istio.io/v1alpha3",
        "ProxyConfig": "networking.istio.io/v1beta1",
        "ServiceEntry": "networking.istio.io/v1",
        "Telemetry": "telemetry.istio.io/v1",
        "WasmPlugin": "extensions.istio.io/v1alpha1",
    }
    labels = {"istio.io/rev": revision} if revision else {}
    metadata = {"name": "tried", "labels": labels}
    return json.dumps({"apiVersion": groups[kind], "kind": kind, "metadata": metadata, "spec": spec})


STABLE = (
    written("ServiceEntry", {"hosts": ["a.example"], "ports": [{"number": 80, "name": "http"}], "resolution": "DNS"}),
    written("Telemetry", {"tracing": [{"randomSamplingPercentage": 1}], "metrics": [{}], "accessLogging": [{}]}),
    written("EnvoyFilter", {}, "other"),
)
UNSTABLE = (
    written("EnvoyFilter", {}),
    written("ProxyConfig", {}),
    written("WasmPlugin", {"url": "oci://a/b"}),
    written("Telemetry", {"accessLogging": [{}, {"filter": {"expression": "true"}}]}),
    written("Telemetry", {"metrics": [{"reportingInterval": "5s"}]}),
    written("Telemetry", {"tracing": [{"useRequestIdForTraceSampling": False}]}),
)


@pytest.mark.usefixtures("istiod")
def test_an_administrator_may_have_stable_kinds_only(cluster: Cluster) -> None:
    """Row SEC68 of the hostile inputs: the API server itself refuses the rest."""

    def answer(*texts: str) -> str:
        done = cluster.call("kubectl", "create", "--dry-run=server", "-f", "-", stdin="\n---\n".join(texts))
        return done.stderr if done.returncode else ""

    wait("all are taken", lambda: answer(*STABLE, *UNSTABLE) == "")

    run(cluster, "upgrade", "istiod", *ISTIOD, "--set", "experimental.stableValidationPolicy=true")

    wait("an EnvoyFilter is refused", lambda: answer(UNSTABLE[0]) != "")
    assert answer(*UNSTABLE).count("is not of the stable channel") == len(UNSTABLE)
    assert answer(*STABLE) == ""


def root(cluster: Cluster) -> str:
    """Some certificate that the API server takes as a caBundle."""
    config = json.loads(cluster.kubeconfig.read_text())
    return str(config["clusters"][0]["cluster"]["certificate-authority-data"])


@pytest.mark.usefixtures("istiod")
@pytest.mark.parametrize(
    ("verb", "what", "namespace", "allowed"),
    [
        ("list", "services", "default", True),
        ("watch", "virtualservices.networking.istio.io", "default", True),
        ("patch", "virtualservices.networking.istio.io/status", "default", True),
        ("create", "tokenreviews.authentication.k8s.io", "", True),
        ("create", "secrets", helm.SYSTEM, True),
        ("patch", "virtualservices.networking.istio.io", "default", False),
        ("create", "secrets", "default", False),
        ("update", "secrets", helm.SYSTEM, False),
        ("delete", "secrets", helm.SYSTEM, False),
        ("patch", "configmaps", "default", False),
        ("create", "pods", "default", False),
        ("create", "deployments.apps", helm.SYSTEM, False),
        ("create", "pods/exec", "default", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", helm.SYSTEM, False),
        ("bind", "clusterroles.rbac.authorization.k8s.io", "", False),
        ("escalate", "clusterroles.rbac.authorization.k8s.io", "", False),
        ("impersonate", "users", "", False),
        ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "", False),
        ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "", False),
    ],
)
def test_what_istiods_account_may_do(cluster: Cluster, verb: str, what: str, namespace: str, *, allowed: bool) -> None:
    place = ["-n", namespace] if namespace else []
    resource, _, part = what.partition("/")
    flags = [f"--as={ACCOUNT}", *([f"--subresource={part}"] if part else [])]
    answer = cluster.call("kubectl", "auth", "can-i", verb, resource, *flags, *place)

    assert answer.stdout.strip() == ("yes" if allowed else "no")


def account(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig of istiod's service account, as its pod has one."""
    config = json.loads(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", "istiod", "-n", helm.SYSTEM).strip()
    config["users"][0]["user"] = {"token": token}
    file = folder / "istiod.kubeconfig"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
def program(cluster: Cluster, istiod: set[str], tmp_path: Path) -> Iterator[Program]:
    """istiod as a process of this machine, with the environment of the chart's Deployment and its account's rights."""
    assert istiod
    container = cluster.get("deployment", "istiod", "-n", helm.SYSTEM)["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    environment |= {"POD_NAME": "istiod-0", "POD_NAMESPACE": helm.SYSTEM, "PATH": os.environ["PATH"]}
    flags = dict(zip(("http", "monitoring", "secureGRPC", "mtls", "https"), free_ports(5), strict=True))
    command = [sys.executable, "-m", "istiod", "discovery", "--kubeconfig", str(account(cluster, tmp_path))]
    command += [f"--{name}Addr=127.0.0.1:{port}" for name, port in flags.items()]
    with running(
        "istiod", ["env", "-i", *(f"{k}={v}" for k, v in environment.items()), *command], tmp_path / "log"
    ) as it:
        yield it


def test_these_rights_are_all_that_istiod_needs(cluster: Cluster, program: Program, tmp_path: Path) -> None:
    host = {"hosts": ["a.example"], "ports": [{"number": 80, "name": "http"}], "resolution": "DNS"}
    entry = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "a"}, "spec": host}
    cluster.apply(json.dumps(entry))
    flags = ("--kubeconfig", str(cluster.kubeconfig))
    assert istioctl.main(["tag", "set", "extra", "--revision", "default", *flags]) == 0  # a tag brings its own right

    def all_written() -> bool:
        root_certificates = cluster.call("kubectl", "get", "configmap", "istio-ca-root-cert", "-n", "default")
        secret = cluster.call("kubectl", "get", "secret", "istio-ca-secret", "-n", helm.SYSTEM)
        injectors = ("istio-sidecar-injector", "istio-revision-tag-extra")
        found = cluster.get("mutatingwebhookconfigurations", *injectors)["items"]
        hooks = [hook for each in found for hook in each["webhooks"]]
        validators = cluster.get("validatingwebhookconfigurations", VALIDATOR, "istiod-default-validator")["items"]
        status = cluster.get("serviceentry", "a").get("status", {})
        return (
            (root_certificates.returncode, secret.returncode) == (0, 0)
            and all(hook["clientConfig"].get("caBundle") for hook in hooks)
            and all(each["webhooks"][0]["clientConfig"].get("caBundle") for each in validators)
            and bool(status.get("conditions"))
        )

    try:
        wait("everything written", all_written, [program])
    finally:
        cluster.kubectl("delete", "serviceentry", "a")
        istioctl.main(["tag", "remove", "extra", "-y", *flags])

    assert "forbidden" not in (tmp_path / "log").read_text().lower()


def test_two_revisions_and_a_gateway_stand_side_by_side(cluster: Cluster, installed: set[str]) -> None:
    made = everything(cluster) - installed

    assert {f"Deployment/{helm.SYSTEM}/{name}" for name in ("istiod", "istiod-canary", "istio-ingressgateway")} < made
    assert {f"Service/{helm.SYSTEM}/istiod-revision-tag-prod", f"ConfigMap/{helm.SYSTEM}/istio-canary"} < made


def test_uninstalling_leaves_the_definitions_and_what_istiod_made(cluster: Cluster, installed: set[str]) -> None:
    for release in ("istio-ingressgateway", "canary", "istiod", "istio-base"):
        run(cluster, "uninstall", release, "-n", helm.SYSTEM)

    left = everything(cluster) - installed
    made = {f"CustomResourceDefinition//{each['metadata']['name']}" for each in definition.all_kinds().values()}
    istiods = {
        each for each in left if each.endswith(("/istio-ca-root-cert", "/istio-ca-secret", "/istio-ca-rotation"))
    }
    assert left - istiods == made
