"""BookInfo as a user meets it: the demo's claims, and Istio's own unmodified YAML where it is at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from examples.demo import mesh as demo
from examples.demo import steps, traffic
from examples.demo.mesh import BookInfo
from tests import samples
from tests.story import worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
JASON = {"end-user": "jason"}


@pytest.fixture(scope="module")
def rules() -> Path:
    """Istio's own routing rules of BookInfo."""
    return samples.path("bookinfo/networking")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def book(rules: Path) -> AsyncIterator[BookInfo]:
    """Istio's own BookInfo."""
    names = ("bookinfo-gateway", "destination-rule-all", "virtual-service-all-v1")
    files = [worlds.MESH_SETTINGS, samples.path("bookinfo/platform/kube/bookinfo.yaml")]
    async with worlds.world([*files, *(rules / f"{name}.yaml" for name in names)]) as found:
        yield found


async def test_every_claim_of_the_demo_holds() -> None:
    async with demo.bookinfo() as book:
        for step in steps.STEPS:
            assert await step.show(book), step.claim
        refused, *others = [line for line in worlds.faults(book.mesh) if " 500 FI " not in line]  # a step aborts
        assert " NR filter_chain_not_found " in refused, refused  # the plaintext client that STRICT is shown with
        assert others == []


async def test_istios_rules_of_v1_show_the_page_without_stars(book: BookInfo) -> None:
    page = await steps.eventually(lambda: book.client.get(traffic.PAGE), lambda reply: "Reviewer1" in reply.text)
    assert page.status == 200
    assert "Shakespeare" in page.text
    assert await book.client.versions(20) == {"v1": 20}


async def test_istios_rule_for_a_test_user_sends_jason_to_v2(book: BookInfo, rules: Path) -> None:
    await book.converge(rules / "virtual-service-reviews-test-v2.yaml")
    assert await book.client.versions(10, user="jason") == {"v2": 10}
    assert await book.client.versions(10) == {"v1": 10}


async def test_istios_delay_of_7_s_makes_jasons_page_fail_as_the_task_says(book: BookInfo, rules: Path) -> None:
    """The task's lesson: reviews gives up on ratings after 10 s, productpage on reviews after 6 s."""
    await book.converge(rules / "virtual-service-ratings-test-delay.yaml")
    page = await book.client.get(traffic.PAGE, JASON)
    assert 6 <= page.seconds < 9
    assert "product reviews are currently unavailable" in page.text
    assert (await book.client.get(traffic.PAGE)).seconds < 3


async def test_istios_abort_takes_jasons_stars_and_nobody_elses_page(book: BookInfo, rules: Path) -> None:
    await book.converge(rules / "virtual-service-ratings-test-abort.yaml")
    page = await book.client.get(traffic.PAGE, JASON)
    assert page.status == 200
    assert "Ratings service is currently unavailable" in page.text
    assert "Ratings service is currently unavailable" not in (await book.client.get(traffic.PAGE)).text


@pytest.mark.parametrize(
    ("name", "versions", "share_of_first"),
    [
        ("80-20", {"v1", "v2"}, 0.8),
        ("90-10", {"v1", "v2"}, 0.9),
        ("50-v3", {"v1", "v3"}, 0.5),
        ("v2-v3", {"v2", "v3"}, 0.5),
        ("v3", {"v3"}, 1.0),
    ],
)
async def test_istios_splits_are_kept(
    book: BookInfo, rules: Path, name: str, versions: set[str], share_of_first: float
) -> None:
    await book.converge(rules / f"virtual-service-reviews-{name}.yaml")
    seen = await book.client.versions(200)
    assert set(seen) <= versions
    assert abs(seen[min(versions)] / 200 - share_of_first) < 0.14  # four standard deviations


async def test_istios_rule_for_jason_and_others_sends_each_to_their_version(book: BookInfo, rules: Path) -> None:
    await book.converge(rules / "virtual-service-reviews-jason-v2-v3.yaml")
    assert await book.client.versions(10, user="jason") == {"v2": 10}
    assert await book.client.versions(10) == {"v3": 10}


async def test_a_fault_of_details_shows_on_the_page(book: BookInfo, rules: Path) -> None:
    await book.converge(rules / "fault-injection-details-v1.yaml")
    page = await book.client.get(traffic.PAGE)
    assert page.status == 200
    assert "product details are currently unavailable" in page.text


async def test_a_gateway_that_asks_for_port_80_is_served_where_its_service_leads_to(
    book: BookInfo, rules: Path
) -> None:
    """Istio's gateway takes a server's port as the Service's, if the Service leads it to another port of the pod."""
    text = (rules / "bookinfo-gateway.yaml").read_text().replace("number: 8080", "number: 80", 1)
    await book.converge(text)
    assert (await book.client.get(traffic.PAGE)).status == 200


async def test_no_request_failed_for_want_of_configuration(book: BookInfo) -> None:
    assert [line for line in worlds.faults(book.mesh) if " FI " not in line and " DI " not in line] == []
