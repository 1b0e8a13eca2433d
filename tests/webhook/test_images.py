"""An administrator's list of images, and the ways in which a pod may ask for another (SEC38)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.webhook.test_inject import CONFIG, ON, injected, named, pod
from webhook import inject, values
from webhook.values import Texts

OWN = "hub.example.org/proxyv2:1"
LISTED = replace(CONFIG, image=OWN, init_image="hub.example.org/init:1", allowed_images=("a.org/mine:2", "b.org/*"))
ASKED = "sidecar.istio.io/proxyImage"
KIND = "sidecar.istio.io/proxyImageType"


def with_container(name: str, image: str, place: str = "containers") -> dict[str, Any]:
    made = pod()
    made["spec"].setdefault(place, []).append({"name": name, "image": image})
    return made


@pytest.mark.parametrize(
    "given",
    [
        pod(),
        pod({ASKED: "a.org/mine:2"}),
        pod({ASKED: "b.org/any/proxyv2:3"}),
        pod({ASKED: OWN}),
        pod({ASKED: "mine:2"}),  # no full name, and so without effect
        pod({KIND: "debug"}),
        pod({KIND: "default"}),
        pod({"proxy.istio.io/config": "{image: {imageType: distroless}}"}),
        pod({"proxy.istio.io/config": "{concurrency: 1}"}),
        with_container("istio-proxy", "auto"),
        with_container("istio-proxy", f"{OWN}-debug"),
        with_container("istio-init", "hub.example.org/init:1", "initContainers"),
        with_container("other", "evil.org/app:1"),
    ],
)
def test_the_meshs_images_and_those_of_the_list_may_be_asked_for(given: dict[str, Any]) -> None:
    assert not inject.inject(given, LISTED, "demo", ON).refused


@pytest.mark.parametrize(
    ("given", "field", "image"),
    [
        (pod({ASKED: "a.org/mine:3"}), f"metadata.annotations[{ASKED}]", "a.org/mine:3"),
        (pod({ASKED: "a.org/mine:2@sha256:0"}), f"metadata.annotations[{ASKED}]", "a.org/mine:2@sha256:0"),
        (pod({ASKED: "b.orgs/x:1"}), f"metadata.annotations[{ASKED}]", "b.orgs/x:1"),
        (pod({KIND: "evil"}), f"metadata.annotations[{KIND}]", f"{OWN}-evil"),
        (
            pod({"proxy.istio.io/config": "{image: {imageType: evil}}"}),
            "metadata.annotations[proxy.istio.io/config]",
            f"{OWN}-evil",
        ),
        (with_container("istio-proxy", "evil.org/x:1"), "spec.containers[1].image", "evil.org/x:1"),
        (
            with_container("istio-init", "evil.org/x:1", "initContainers"),
            "spec.initContainers[1].image",
            "evil.org/x:1",
        ),
        (
            with_container("istio-validation", "evil.org/x:1", "initContainers"),
            "spec.initContainers[1].image",
            "evil.org/x:1",
        ),
    ],
)
def test_any_other_is_refused_by_field_whichever_way_it_is_asked_for(
    given: dict[str, Any], field: str, image: str
) -> None:
    answer = inject.inject(given, LISTED, "demo", ON)
    assert answer.refused
    assert answer.patch == ()
    (found,) = answer.diagnostics
    assert found.field == field
    assert found.message.startswith(f"{image!r} is not among the images")
    # Without a list it is allowed, as on Istio
    assert not inject.inject(given, replace(LISTED, allowed_images=()), "demo", ON).refused


def test_the_kind_that_the_mesh_is_configured_with_is_its_own() -> None:
    config = replace(LISTED, proxy_config={"image": {"imageType": "fips"}})
    given = with_container("istio-proxy", f"{OWN}-fips")
    assert not inject.inject(given, config, "demo", ON).refused
    made = injected(given, config)
    assert named(made, "istio-proxy")["image"] == f"{OWN}-fips"


def test_the_list_is_a_value_of_the_chart() -> None:
    found = values.from_values(Texts(values="{sidecarInjectorWebhook: {allowedProxyImages: [a.org/b, 'c.org/*']}}"))
    assert found.diagnostics == ()
    assert found.config is not None
    assert found.config.allowed_images == ("a.org/b", "c.org/*")
