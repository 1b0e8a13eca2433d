"""An agent that asks for patches of its bootstrap gets an answer at once, be it that there are none."""

from __future__ import annotations

from istiod.ads.quarantine import Quarantine
from istiod.ads.session import Shared
from tests.ads import model
from tests.ads.client import Client, brief
from wire import names

B, NAME = names.BOOTSTRAP, names.BOOTSTRAP_PATCHES
PATCHES = model.make(B, NAME, "0")


def test_patches_are_sent_and_that_there_are_none_is_said() -> None:
    assert brief(Client(PATCHES).ask(B, NAME)) == [("Bootstrap", [NAME], [])]
    client = Client()
    (answer,) = client.ask(B, NAME)
    assert brief([answer]) == [("Bootstrap", [], [NAME])]
    assert client.ack(answer) == []
    assert brief(client.set(PATCHES)) == [("Bootstrap", [NAME], [])]


def test_whoever_asks_for_a_whole_bootstrap_is_not_sent_patches() -> None:
    """Istio's agents did so until 1.20, and would start Envoy with nothing else."""
    assert Client(PATCHES).ask(B) == []
    assert Client(PATCHES, delta=False).ask(B) == []


def test_what_another_of_the_identity_refused_is_not_sent_again_and_nobody_waits() -> None:
    shared = Shared(quarantine=Quarantine())
    first = Client(PATCHES, shared=shared, of="a", name="one")
    (answer,) = first.ask(B, NAME)
    first.ack(answer, error="no")
    second = Client(PATCHES, shared=shared, of="a", name="two")
    (answer,) = second.ask(B, NAME)
    assert brief([answer]) == [("Bootstrap", [], [NAME])]
    assert second.ack(answer) == []
    assert brief(Client(PATCHES, shared=shared, of="b").ask(B, NAME)) == [("Bootstrap", [NAME], [])]
    assert brief(second.set(model.make(B, NAME, "1"))) == [("Bootstrap", [NAME], [])]
