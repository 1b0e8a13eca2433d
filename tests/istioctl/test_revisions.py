"""check-inject, injector list and tag in a real API server, on what the chart installs. No istiod runs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.harness.controlplane import Cluster
from istioctl import __main__ as program
from istioctl.tag import documents
from tests.charts import helm

pytestmark = pytest.mark.apiserver

ROOT, SHOP, REVISION, LATER = "revisions-system", "revisions-shop", "checked", "later"
INJECTOR, TAG = f"istio-sidecar-injector-{REVISION}-{ROOT}", f"istio-revision-tag-prod-{ROOT}"
KINDS = ("MutatingWebhookConfiguration", "ConfigMap", "Deployment", "Service", "ServiceAccount")
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "app", "image": "app"}], "schedulerName": "none"},
}
Told = Callable[..., str]


def install(cluster: Cluster, revision: str) -> None:
    """What of a revision concerns us, as the chart has it."""
    made = [each for each in helm.render("istiod", {"revision": revision}, namespace=ROOT) if each["kind"] in KINDS]
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}), ROOT)


@pytest.fixture(scope="module")
def mesh(apiserver: Cluster) -> Iterator[Cluster]:
    """Two revisions, and a namespace that asks for the first, with a pod that was there before."""
    for name in (ROOT, SHOP):
        apiserver.kubectl("create", "namespace", name)
    apiserver.apply(json.dumps(POD), SHOP)
    for revision in (REVISION, LATER):
        install(apiserver, revision)
    apiserver.kubectl("label", "namespace", SHOP, f"istio.io/rev={REVISION}")
    yield apiserver
    apiserver.kubectl("delete", "mutatingwebhookconfigurations", "-l", f"istio.io/rev in ({REVISION}, {LATER})")


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


def hook(mesh: Cluster, name: str = TAG) -> Any:
    return mesh.get("mutatingwebhookconfigurations", name)


def may_patch(mesh: Cluster, revision: str) -> bool:
    account = f"--as=system:serviceaccount:{ROOT}:istiod-{revision}"
    told = mesh.call("kubectl", "auth", "can-i", "patch", f"mutatingwebhookconfigurations/{TAG}", account)
    return told.stdout.strip() == "yes"


def test_a_tag_is_what_the_chart_makes_of_its_value() -> None:
    values = {"revision": REVISION, "revisionTags": ["prod", "default"]}
    made = helm.render(
        "istiod", {**values, "sidecarInjectorWebhook": {"enableNamespacesByDefault": True}}, namespace=ROOT
    )
    own = helm.one(made, "MutatingWebhookConfiguration", INJECTOR)
    for name in ("prod", "default"):
        of_chart = helm.one(made, "MutatingWebhookConfiguration", f"istio-revision-tag-{name}-{ROOT}")
        tag = documents.Tag(name=name, revision=REVISION, injector=own, root=ROOT, by_default=True)
        ours = documents.webhook(tag)
        assert ours["webhooks"] == of_chart["webhooks"]
        assert ours["metadata"]["name"] == of_chart["metadata"]["name"]
        wanted = {key: of_chart["metadata"]["labels"][key] for key in ("app", "istio.io/rev", "istio.io/tag")}
        assert wanted.items() <= ours["metadata"]["labels"].items()
    base = helm.render("base", {"defaultRevision": REVISION, "global": {"istioNamespace": ROOT}}, namespace=ROOT)
    of_chart = helm.one(base, "ValidatingWebhookConfiguration")
    validator = documents.validator(tag, None)
    assert validator["webhooks"] == of_chart["webhooks"]
    assert validator["metadata"]["name"] == of_chart["metadata"]["name"]


def test_a_tag_moves_a_namespace_from_revision_to_revision(
    mesh: Cluster, told: Told, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told("tag", "set", "prod", "-r", REVISION).startswith(
        f'Revision tag "prod" created, referencing control plane revision "{REVISION}".'
    )
    mesh.kubectl("label", "namespace", namespace, "istio.io/rev=prod")
    assert row(told("tag", "list"), "prod") == ["prod", REVISION, namespace]
    assert may_patch(mesh, REVISION)
    assert "already exists, and --overwrite is false" in told("tag", "set", "prod", "-r", LATER, code=1)
    told("tag", "set", "prod", "--revision", LATER, "--overwrite", "--webhook-name", "prod-hook")
    assert hook(mesh, "prod-hook")["metadata"]["labels"]["istio.io/rev"] == LATER
    told("tag", "set", "prod", "--revision", LATER, "--overwrite")
    tagged = mesh.get("mutatingwebhookconfigurations", "-l", "istio.io/tag=prod")["items"]
    assert [each["metadata"]["name"] for each in tagged] == [TAG]
    assert (may_patch(mesh, REVISION), may_patch(mesh, LATER)) == (False, True)
    found = json.loads(told("tag", "list", "-o", "json"))
    assert {"tag": "prod", "revision": LATER, "namespaces": [namespace]} in found
    assert {"tag": "", "revision": REVISION, "namespaces": [SHOP]} in found
    refused = mesh.call("kubectl", "create", "-n", namespace, "--dry-run=server", "-f", "-", stdin=json.dumps(POD))
    assert 'calling webhook "rev.namespace.sidecar-injector.istio.io"' in refused.stderr  # nobody answers there
    assert f"https://istiod-{LATER}.{ROOT}.svc:443/inject" in refused.stderr

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    said = told("tag", "remove", "prod")
    assert f'Caution, found 1 namespace(s) still injected by tag "prod": {namespace}\n' in said
    assert said.endswith("Aborting operation.\n")
    assert hook(mesh)
    assert told("tag", "remove", "prod", "-y") == "Revision tag prod removed\n"
    assert not may_patch(mesh, LATER)
    assert "cannot find MutatingWebhookConfiguration for tag" in told("tag", "remove", "prod", "-y", code=1)
    mesh.kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", stdin=json.dumps(POD))


@pytest.fixture
def plain(mesh: Cluster) -> Iterator[str]:
    """The default revision, in the same mesh; the name of its injector."""
    install(mesh, "")
    yield f"istio-sidecar-injector-{ROOT}"
    ours = [f"istio-sidecar-injector-{ROOT}", f"istio-revision-tag-default-{ROOT}"]
    mesh.kubectl("delete", "--ignore-not-found", "mutatingwebhookconfigurations", *ours)
    mesh.kubectl("delete", "--ignore-not-found", "validatingwebhookconfigurations", documents.VALIDATOR)


def test_the_default_tag_takes_over_injection_and_validation(
    mesh: Cluster, told: Told, plain: str, namespace: str
) -> None:
    mesh.kubectl("label", "namespace", namespace, "istio-injection=enabled")
    made = told("tag", "generate", "default", "-r", REVISION, "-y")
    assert "&id" not in made
    accepted = mesh.kubectl("apply", "--dry-run=server", "-f", "-", stdin=made)
    assert f"validatingwebhookconfiguration.admissionregistration.k8s.io/{documents.VALIDATOR} created" in accepted
    warned = told("tag", "generate", "default", "-r", REVISION)
    assert "creating tag would conflict, pass --skip-confirmation to proceed:\nError [IST0139]" in warned

    told("tag", "set", "default", "-r", REVISION)  # asks nothing: what was the default injects no more
    verdicts = told("x", "check-inject", "-n", namespace, "-l", "app=web")
    assert row(verdicts, plain)[2:] == ["✘", "The injection webhook is deactivated, and will never match labels."]
    tag = f"istio-revision-tag-default-{ROOT}"
    assert row(verdicts, tag)[1:3] == [REVISION, "✔"]
    (validates,) = mesh.get("validatingwebhookconfigurations", documents.VALIDATOR)["webhooks"]
    assert validates["clientConfig"]["service"]["name"] == f"istiod-{REVISION}"
    mesh.kubectl(
        *("patch", "validatingwebhookconfiguration", documents.VALIDATOR, "--type=json", "-p"),
        '[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]',  # as istiod does
    )
    told("tag", "set", "default", "-r", LATER, "--overwrite")
    (validates,) = mesh.get("validatingwebhookconfigurations", documents.VALIDATOR)["webhooks"]
    assert (validates["clientConfig"]["service"]["name"], validates["failurePolicy"]) == (f"istiod-{LATER}", "Fail")


def test_who_answers_no_to_a_conflict_changes_nothing(
    mesh: Cluster, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    said = told("tag", "set", LATER, "-r", REVISION, "--overwrite")
    assert "Webhook overlaps with others" in said
    assert said.count("Apply anyways? [y/N]") == 1
    assert not mesh.get("mutatingwebhookconfigurations", "-l", f"istio.io/tag={LATER}")["items"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("set", "prod", "-r", "nobodys"), "cannot modify tag: cannot find MutatingWebhookConfiguration with revision"),
        (("set", LATER, "-r", REVISION), f'cannot create revision tag "{LATER}": found existing control plane'),
    ],
)
def test_a_tag_that_cannot_be_is_refused(told: Told, words: tuple[str, ...], reason: str) -> None:
    assert reason in told("tag", *words, code=1)
