"""How far objects came, and what is remembered of that: little, however many objects and proxies there are."""

from __future__ import annotations

from istiod.ads.deliveries import Delivery
from istiod.ads.server import AdsService
from istiod.grpcserver.stream import Stream
from tests.ads import made
from tests.ads.test_turns import Line, of_slices, settled
from wire import names


class Mesh:
    """Two streams that have all there is."""

    def __init__(self) -> None:
        self.configuration = made.Fixed(made.targets(made.cluster("c")))
        self.service = AdsService(self.configuration, of_slices())
        self.line = Line(self.service)
        self.streams: list[Stream] = []

    async def start(self) -> None:
        self.streams = [await settled(self.line), self.line.begin(3)]
        await self.line.answer(self.streams[1])
        self.line.hear(self.streams[1], names.LISTENER)
        await self.line.answer(self.streams[1])
        assert self.service.converged()

    async def change(self, turn: float, *keys: str) -> None:
        """These objects change all targets."""
        self.configuration.set(made.cluster("c", timeout=turn))
        self.service.deliveries.note(keys, self.configuration.proxies)
        await self.line.rounds(5)

    def waiting(self, key: str) -> tuple[int, int]:
        """How many an object concerns, and how many of them have not acknowledged it."""
        found: Delivery = self.service.deliveries.of(key)
        return found.proxies, len(found.waiting)


async def test_an_object_came_when_all_who_were_told_have_acknowledged_it_however_much_changes_since() -> None:
    mesh = Mesh()
    await mesh.start()
    await mesh.change(2.0, "a")
    assert mesh.waiting("a") == (2, 2)
    await mesh.line.answer(mesh.streams[0])
    assert mesh.waiting("a") == (2, 1)
    await mesh.change(3.0, "a", "b")
    for turn in range(5):
        mesh.service.deliveries.note((f"nobody's {turn}",), ())
    assert (mesh.waiting("a"), mesh.waiting("b")) == ((2, 2), (2, 2))
    await mesh.line.answer(mesh.streams[0])
    for turn in range(5):
        mesh.service.deliveries.note((f"nobody's {turn}",), ())
    assert (mesh.waiting("a"), mesh.waiting("b")) == ((2, 1), (2, 1))
    mesh.service.deliveries.note(("a",), ())
    assert mesh.waiting("a") == (1, 1), "who has not acknowledged the change before has to"
    await mesh.line.answer(mesh.streams[1])
    assert (mesh.waiting("a"), mesh.waiting("b")) == ((1, 0), (2, 0))
    assert mesh.waiting("nobody's 1") == (0, 0)
    assert mesh.waiting("unheard of") == (2, 0)


async def test_who_connects_after_a_change_has_to_acknowledge_its_first_configuration() -> None:
    mesh = Mesh()
    await mesh.start()
    await mesh.change(2.0, "a")
    for stream in mesh.streams:
        await mesh.line.answer(stream)
    later = mesh.line.begin(5)
    await mesh.line.rounds(5)
    assert mesh.waiting("a") == (3, 1)
    await mesh.line.answer(later)
    mesh.line.hear(later, names.LISTENER)
    await mesh.line.answer(later)
    assert mesh.waiting("a") == (3, 0)


async def test_of_many_objects_and_many_pushes_little_is_remembered_once_all_have_acknowledged_them() -> None:
    """With a thousand proxies a number for each of them and of two thousand objects was 298 MB."""
    mesh = Mesh()
    await mesh.start()
    for turn in range(20):
        await mesh.change(2.0 + turn, f"a{turn}", f"b{turn}")
        for stream in mesh.streams:
            await mesh.line.answer(stream)
    for _ in range(20):
        mesh.service.deliveries.note(("nobody's",), ())
    changes = list(mesh.service.deliveries._changes.values())
    assert len(changes) == 41
    assert sum(len(change.told.targets) + len(change.before) for change in changes) == 0
    assert len({id(change.told.done) for change in changes if change.told.done}) == 1, "one set for all"
    assert mesh.waiting("a0") == mesh.waiting("b19") == (2, 0)
