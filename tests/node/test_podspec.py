"""From a pod's YAML to what is started."""

from __future__ import annotations

import pytest

from node import images, podspec
from node.images import Image
from node.objects import Raw
from node.podspec import Facts, Mount, Rights, Volume

FACTS = Facts(
    address="10.244.0.2",
    host_address="10.244.0.1",
    node="n",
    cpus=4,
    memory=1 << 30,
    config_maps={"cm": {"k": "v", "l": "w"}},
    secrets={"s": {"p": "q"}},
    token="t",
)
POD: Raw = {
    "metadata": {"name": "a", "namespace": "demo", "uid": "u", "labels": {"app": "a"}, "annotations": {"x/y": 'q"'}},
    "spec": {"serviceAccountName": "sa"},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "a"),
        ("metadata.namespace", "demo"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "a"),
        ("metadata.annotations['x/y']", 'q"'),
        ("metadata.labels", 'app="a"\n'),
        ("metadata.annotations", 'x/y="q\\""\n'),
        ("spec.nodeName", "n"),
        ("spec.serviceAccountName", "sa"),
        ("status.podIP", "10.244.0.2"),
        ("status.hostIP", "10.244.0.1"),
        ("spec.nosuch", ""),
    ],
)
def test_the_downward_api_gives_fields(path: str, value: str) -> None:
    assert podspec.field_of(POD, path, FACTS) == value


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "1024"),
        ({"resource": "requests.cpu"}, "0"),
        ({"resource": "limits.cpu", "divisor": "odd"}, "2"),
    ],
)
def test_the_downward_api_gives_resources_rounded_up(reference: Raw, value: str) -> None:
    container = {"resources": {"limits": {"cpu": "1500m"}}}
    assert podspec.resource_of(container, reference, FACTS) == value


def test_without_a_limit_there_is_the_whole_machine() -> None:
    assert podspec.resource_of({}, {"resource": "limits.cpu"}, FACTS) == "4"


def test_the_environment_is_read_in_order_and_expanded() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"secretRef": {"name": "s"}}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(NOSUCH)-$$(A)"},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
            {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "nosuch"}}},
            {"name": "F", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "G"},
            {"name": "H", "valueFrom": {}},
        ],
    }
    assert podspec.environment(POD, container, FACTS) == {
        "P_k": "v", "P_l": "w", "p": "q", "A": "1", "B": "1-$(NOSUCH)-$(A)", "C": "10.244.0.2", "D": "v",
        "F": "4", "G": "",
    }  # fmt: skip


def test_rights_come_from_pod_and_container() -> None:
    pod: Raw = {"spec": {"securityContext": {"runAsUser": 5, "fsGroup": 1337, "supplementalGroups": [7]}}}
    context = {"runAsGroup": 6, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    found = podspec.rights(pod, {"securityContext": context})
    assert found == Rights(uid=5, gid=6, groups=(6, 7, 1337), capabilities=(), no_new_privileges=True)


@pytest.mark.parametrize(
    ("context", "has", "lacks"),
    [
        ({}, {13}, {12, 21}),
        ({"capabilities": {"add": ["CAP_NET_ADMIN"], "drop": ["NET_RAW"]}}, {12}, {13}),
        ({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}}, {12, 13}, {0}),
        ({"capabilities": {"add": ["ALL"]}}, {21}, set()),
        ({"privileged": True}, {21}, set()),
    ],
)
def test_capabilities_are_those_of_a_container_runtime(context: Raw, has: set[int], lacks: set[int]) -> None:
    found = set(podspec.rights({}, {"securityContext": context}).capabilities)
    assert has <= found
    assert not lacks & found


def test_mounts_are_made_outer_paths_first() -> None:
    raw = [{"name": "b", "mountPath": "/x/y", "readOnly": True}, {"name": "a", "mountPath": "/x", "subPath": "s"}]
    assert podspec.mounts({"volumeMounts": raw}) == (
        Mount(volume="a", target="/x", sub_path="s"),
        Mount(volume="b", target="/x/y", read_only=True),
    )


def volume(**source: object) -> Volume:
    pod = {**POD, "spec": {"containers": [{"name": "c", "resources": {}}], "volumes": [{"name": "v", **source}]}}
    return podspec.volumes(pod, FACTS)["v"]


def test_volumes_hold_what_their_sources_say() -> None:
    assert volume(emptyDir={}) == volume() == volume(csi={}) == Volume(name="v")
    assert volume(configMap={"name": "cm"}).files == {"k": "v", "l": "w"}
    assert volume(configMap={"name": "cm", "items": [{"key": "k", "path": "p"}, {"key": "no", "path": "q"}]}).files == {
        "p": "v"
    }
    assert volume(secret={"secretName": "s"}).files == {"p": "q"}
    assert volume(hostPath={"path": "/srv"}).host_path == "/srv"
    token = {"serviceAccountToken": {"path": "istio-token"}}
    assert volume(projected={"sources": [token, {"configMap": {"name": "cm"}}]}).files == {
        "istio-token": "t",
        "k": "v",
        "l": "w",
    }
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
        {"path": "odd"},
    ]
    assert volume(downwardAPI={"items": items}).files == {"labels": 'app="a"\n', "cpu": "4"}


def test_a_missing_source_is_a_problem_unless_it_is_optional() -> None:
    assert volume(configMap={"name": "no"}).problem == 'configmap "no" not found'
    assert volume(secret={"secretName": "no"}).problem == 'secret "no" not found'
    assert volume(configMap={"name": "no", "optional": True}).problem == ""


@pytest.mark.parametrize(
    ("image", "argv"),
    [
        (
            "registry.example/istio/examples-bookinfo-reviews-v2:1.20.3",
            ("py", "-m", "examples.bookinfo", "reviews", "v2"),
        ),
        ("istio/proxyv2@sha256:abc", ("py", "-m", "agent")),
        ("localhost:5000/pilot", ("py", "-m", "istiod")),
        ("docker.io/curlimages/curl:8.16.0", ("curl", "--help")),
        ("docker.io/istio/examples-helloworld-v1:1.0", ("py", "-m", "examples.helloworld")),
        ("busybox", ("sh",)),
        ("mine:1", ("m",)),
    ],
)
def test_images_stand_for_local_commands(image: str, argv: tuple[str, ...]) -> None:
    found = images.table("py", {"mine": Image(command=("m",))})(image)
    assert found is not None
    assert found.argv((), ()) == argv


def test_an_unknown_image_stands_for_nothing() -> None:
    assert images.table("py")("nosuch/thing:1") is None


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [((), (), ("e", "c")), ((), ("a",), ("e", "a")), (("x",), (), ("x",)), (("x",), ("a",), ("x", "a"))],
)
def test_command_and_args_replace_entrypoint_and_command(
    command: tuple[str, ...], args: tuple[str, ...], argv: tuple[str, ...]
) -> None:
    assert Image(entrypoint=("e",), command=("c",)).argv(command, args) == argv
