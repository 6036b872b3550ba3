"""Two made-up hosts with made-up clocks, and one lease between them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from harness.errors import HarnessError
from harness.lease import BEAT_S, EXPIRES_S, Lease, turn
from harness.track import Store
from harness.workspace import Workspace


@dataclass
class Board:
    """A lease that lies in memory; `meanwhile` is what happens right after the next write."""

    text: str = ""
    meanwhile: Callable[[], None] | None = None

    def lease(self) -> str:
        return self.text

    def write_lease(self, text: str) -> None:
        self.text = text
        then, self.meanwhile = self.meanwhile, None
        if then:
            then()


@dataclass
class World:
    """One clock for all hosts, and which processes live."""

    now: float = 1000.0
    living: set[str] = field(default_factory=set)
    board: Board = field(default_factory=Board)

    def lease(self, host: str, process: str) -> Lease:
        self.living.add(process)
        return Lease(self.board, host, process, lambda mark: mark in self.living, lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def holder(self) -> str:
        return json.loads(self.board.text)["process"] if self.board.text else ""


@pytest.fixture
def world() -> World:
    return World()


def test_a_live_lease_of_another_host_is_refused_with_who_and_when(world: World) -> None:
    world.lease("a", "1-77").take(2.0)
    world.now += 40
    with pytest.raises(HarnessError, match=r"process 1 on a runs grids in this store, heard of 40 s ago"):
        world.lease("b", "2-88").take(2.0)
    assert world.holder == "1-77"


def test_signs_of_life_keep_it_for_ever_and_silence_loses_it(world: World) -> None:
    first, second = world.lease("a", "1-77"), world.lease("b", "2-88")
    first.take(0)
    for _ in range(100):
        world.now += BEAT_S
        first.beat()
        with pytest.raises(HarnessError):
            second.take(0)
    world.now += EXPIRES_S - 0.5
    with pytest.raises(HarnessError):
        second.take(0)
    world.now += 0.5
    second.take(0)
    assert world.holder == "2-88"
    first.check()  # it does not know yet
    first.beat()
    assert world.holder == "2-88", "who was silent for too long writes over nobody"
    with pytest.raises(HarnessError, match="process 2 on b has begun"):
        first.check()
    first.release()
    assert world.holder == "2-88"


def test_a_dead_process_of_this_host_is_no_holder(world: World) -> None:
    world.lease("a", "1-77").take(0)
    with pytest.raises(HarnessError):
        world.lease("a", "2-88").take(0)
    world.living.discard("1-77")
    world.lease("a", "2-88").take(0)
    assert world.holder == "2-88"


def test_a_live_process_of_this_host_holds_it_however_silent(world: World) -> None:
    world.lease("a", "1-77").take(0)
    world.now += 10 * EXPIRES_S
    with pytest.raises(HarnessError):
        world.lease("a", "2-88").take(0)


def test_given_back_it_is_free_at_once(world: World) -> None:
    first = world.lease("a", "1-77")
    first.take(0)
    first.release()
    assert world.holder == ""
    world.lease("b", "2-88").take(0)


def test_of_two_that_write_at_one_moment_the_last_one_stays(world: World) -> None:
    """Both have found it free; the other writes between our writing and our reading it back."""
    first, second = world.lease("a", "1-77"), world.lease("b", "2-88")
    second._write()
    theirs, world.board.text = world.board.text, ""
    world.board.meanwhile = lambda: world.board.write_lease(theirs)
    with pytest.raises(HarnessError, match="process 2 on b"):
        first.take(2.0)
    assert world.holder == "2-88"
    second.beat()
    second.check()


def test_a_race_lost_after_the_pause_is_found_out_by_the_next_beat(world: World) -> None:
    """What no pause can rule out: the other one stalled between reading and writing. For a beat both work."""
    first, second = world.lease("a", "1-77"), world.lease("b", "2-88")
    first.take(2.0)
    second._write()
    first.check()
    world.now += BEAT_S
    first.beat()
    with pytest.raises(HarnessError):
        first.check()


def test_the_store_keeps_the_lease_while_it_is_held(stored: Workspace) -> None:
    store = Store(stored)
    with turn(stored) as held:
        assert held.place == stored
        kept = json.loads(store.lease())
        assert set(kept) == {"host", "process", "beat"}
    assert store.lease() == ""


def test_another_hosts_lease_in_the_store_stops_a_turn(stored: Workspace) -> None:
    import time

    Store(stored).write_lease(json.dumps({"host": "elsewhere", "process": "5-1", "beat": time.time()}))
    with pytest.raises(HarnessError, match="process 5 on elsewhere"), turn(stored):
        pass
    assert not stored.lock.exists()


def test_a_grid_gives_way_once_another_host_has_the_lease(write_spec, stored: Workspace) -> None:
    from harness import specfile
    from harness.means import Means
    from harness.session import Session

    spec = specfile.read(write_spec())
    with Session.open(spec, Means(inline=True)) as session:
        store, updates = Store(stored), session.run()
        next(updates)
        store.write_lease(json.dumps({"host": "elsewhere", "process": "5-1", "beat": 0}))
        session._lease.beat()
        with pytest.raises(HarnessError, match="gives way"):
            next(updates)
    ((_, parent),) = store.grids()
    assert parent.info.status == "RUNNING", "that is for the other host to say"
    assert {run.info.status for run in store.children(parent)} <= {"KILLED", "FINISHED"}
    assert "elsewhere" in store.lease(), "it is not ours to give back"
