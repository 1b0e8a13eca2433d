"""check-inject, injector list and tag in a real API server, on what the chart installs. No istiod runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from e2e.harness.controlplane import Cluster
from istioctl import __main__ as program
from tests.charts import helm

pytestmark = pytest.mark.apiserver

ROOT, SHOP, REVISION = "revisions-system", "revisions-shop", "checked"
INJECTOR = f"istio-sidecar-injector-{REVISION}-{ROOT}"
KINDS = ("MutatingWebhookConfiguration", "ConfigMap", "Deployment", "Service", "ServiceAccount")
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "app", "image": "app"}], "schedulerName": "none"},
}
Told = Callable[..., str]


@pytest.fixture(scope="module")
def mesh(apiserver: Cluster) -> Iterator[Cluster]:
    """A revision, and a namespace that asks for it, with a pod that was there before."""
    for name in (ROOT, SHOP):
        apiserver.kubectl("create", "namespace", name)
    apiserver.apply(json.dumps(POD), SHOP)
    made = [each for each in helm.render("istiod", {"revision": REVISION}, namespace=ROOT) if each["kind"] in KINDS]
    apiserver.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}), ROOT)
    apiserver.kubectl("label", "namespace", SHOP, f"istio.io/rev={REVISION}")
    yield apiserver
    apiserver.kubectl("delete", "mutatingwebhookconfigurations", "-l", f"istio.io/rev={REVISION}")


@pytest.fixture
def told(mesh: Cluster, capsys: pytest.CaptureFixture[str]) -> Told:
    """What a command says, on both channels; the code has to be the one that is expected."""

    def run(*words: str, code: int = 0) -> str:
        got = program.main([*words, "--kubeconfig", str(mesh.kubeconfig), "-i", ROOT])
        said = capsys.readouterr()
        assert got == code, said
        return said.out + said.err

    return run


def row(said: str, *starts: str) -> list[str]:
    """The cells of the one line that begins like this."""
    (found,) = (line for line in said.splitlines() if line.split()[: len(starts)] == list(starts))
    return found.split(maxsplit=3)


def test_a_pod_and_labels_are_held_against_the_webhooks(told: Told) -> None:
    said = told("x", "check-inject", f"web.{SHOP}")
    assert said.split("\n", 1)[0].split() == ["WEBHOOK", "REVISION", "INJECTED", "REASON"]
    assert row(said, INJECTOR) == [INJECTOR, REVISION, "✔", f"Namespace label istio.io/rev={REVISION} matches"]
    said = told("x", "check-inject", "-n", SHOP, "-l", "app=web,sidecar.istio.io/inject==false")
    assert row(said, INJECTOR)[2:] == ["✘", "Pod has sidecar.istio.io/inject=false label, preventing injection"]
    said = told("x", "check-inject", "-n", SHOP, "-l", "app=web", "--revision", "nobodys")
    assert said == "ERROR: no Istio injection hooks present.\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "Error: check-inject requires only [<resource-type>/]<resource-name>"),
        (("web", "-n", "nowhere"), 'Error: pod "web" not found in namespace "nowhere"'),
        (("-l", "a=b", "-n", "nowhere"), 'Error: namespace "nowhere" not found'),
        (("-l", "a"), 'Error: --labels: "a" is no list of labels'),
    ],
)
def test_what_cannot_be_checked_is_said(told: Told, words: tuple[str, ...], reason: str) -> None:
    assert told("x", "check-inject", *words, code=1).startswith(reason)


def test_namespaces_and_injectors_are_listed_with_pods_and_images(told: Told) -> None:
    said = told("x", "injector", "list", "-n", SHOP)
    first, second = said.split("\n\n")
    assert first.splitlines()[0] == f"{'NAMESPACE':{len(SHOP)}} ISTIO-REVISION POD-REVISIONS"
    assert row(first, SHOP) == [SHOP, REVISION, "<non-Istio>:", "1 NEEDS RESTART: 1"]
    assert second.splitlines()[0].split() == ["NAMESPACES", "INJECTOR-HOOK", "ISTIO-REVISION", "SIDECAR-IMAGE"]
    _, _, of, image = row(second, SHOP, INJECTOR)
    assert of == REVISION
    assert "/proxyv2:" in image
    assert not [line for line in second.splitlines() if ROOT in line.split()]
