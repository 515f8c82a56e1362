"""What a node keeps of the objects that it holds for others, and for how long (G2)."""

from typing import Any

import pytest

from onefold.core.model import NEVER, NEW, ROOT, Batch, Entry, Kind, Origin, Pack, Put
from onefold.core.wire import RULES
from onefold.errors import DiskTrouble
from onefold.node.durable import RELEASED_AT_ONCE, Keeper

OBJECT = b"o" * 32
OTHER = b"p" * 32


class Store:
    """Objects, and recent contents, of which only what is let go is of interest."""

    def __init__(self) -> None:
        self.released: list[bytes] = []
        self.held: list[bytes] = []
        self.refused: set[bytes] = set()

    def release(self, digest: bytes) -> None:
        self.released.append(digest)

    def forget(self, index: int) -> None: ...

    def digests(self) -> list[bytes]:
        return self.held


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def keeper(store: Store) -> Keeper:
    stub: Any = store
    return Keeper(stub, stub, stub, lambda: None, lambda: 0, lambda _: None, lambda: store.refused, 0)


def applied(keeper: Keeper, index: int, term: int, *named: bytes) -> None:
    puts = tuple(Put(NEW, NEVER, ROOT, b"%d" % i, Kind.FILE, 0o644, 0, 1 << 20, d) for i, d in enumerate(named))
    pack = Pack((Batch(Origin("a", 1, index), puts),), {})
    keeper.applied(index, Entry(RULES, term, b"nonce123", b"", b"", 0), pack)


def durable(keeper: Keeper, index: int) -> None:
    keeper.durable = index
    keeper.release([index, index], 3)


def test_g2_what_is_named_is_kept_until_that_is_durable_on_a_majority(keeper: Keeper, store: Store) -> None:
    keeper.pin(OBJECT, 5)
    applied(keeper, 1, 5, OBJECT)
    keeper.durable = 1
    keeper.release([1], 3)
    assert store.released == []
    durable(keeper, 1)
    assert store.released == [OBJECT]


def test_g2_what_is_held_once_more_is_not_let_go_for_having_been_named_before(keeper: Keeper, store: Store) -> None:
    keeper.pin(OBJECT, 5)
    applied(keeper, 1, 5, OBJECT)
    keeper.pin(OBJECT, 5)  # for a copy of that file; the first may be gone by then
    durable(keeper, 1)
    assert store.released == []
    applied(keeper, 2, 5, OBJECT)
    durable(keeper, 1)
    assert store.released == []
    durable(keeper, 2)
    assert store.released == [OBJECT]


def test_g2_what_is_named_again_is_kept_until_the_last_is_durable(keeper: Keeper, store: Store) -> None:
    keeper.pin(OBJECT, 5)
    applied(keeper, 1, 5, OBJECT)
    applied(keeper, 2, 5, OBJECT)
    durable(keeper, 1)
    assert store.released == []
    durable(keeper, 2)
    assert store.released == [OBJECT]


def test_g2_what_is_held_for_a_later_term_outlives_the_term_that_it_was_held_for_first(
    keeper: Keeper, store: Store
) -> None:
    keeper.pin(OBJECT, 5)
    keeper.pin(OBJECT, 7)
    applied(keeper, 1, 7, OTHER)
    durable(keeper, 1)
    assert OBJECT not in store.released


def test_what_a_term_held_and_did_not_name_is_let_go_in_the_next(keeper: Keeper, store: Store) -> None:
    keeper.pin(OBJECT, 5)
    applied(keeper, 1, 7, OTHER)
    durable(keeper, 1)
    assert OBJECT in store.released


def test_what_was_fetched_without_being_held_is_let_go_as_well(keeper: Keeper, store: Store) -> None:
    applied(keeper, 1, 5, OBJECT)
    durable(keeper, 1)
    assert store.released == [OBJECT]


class Clock:
    """One that does not wait."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


async def test_a_sync_that_fails_is_not_tried_again_but_ends_the_node(store: Store) -> None:
    def fail() -> None:
        raise DiskTrouble("what was written could not be synced: Input/output error")

    stub: Any = store
    keeper = Keeper(stub, stub, Clock(), fail, lambda: 5, lambda _: None, set, 0)
    with pytest.raises(DiskTrouble, match="could not be synced"):
        await keeper.run()
    assert keeper.durable == 0


def test_a_pack_is_kept_until_the_log_is_trimmed(keeper: Keeper, store: Store) -> None:
    keeper.restore(1, [(1, OTHER)], lambda _: False)
    keeper.applied(2, Entry(RULES, 1, b"nonce123", None, OBJECT, 9), Pack((), {}))
    durable(keeper, 5)
    assert store.released == []
    keeper.trimmed(1)
    durable(keeper, 5)
    assert store.released == [OTHER]
    keeper.trimmed(2)
    durable(keeper, 5)
    assert store.released == [OTHER, OBJECT]


def test_g2_what_was_held_before_a_restart_is_kept_until_a_later_term_has_not_named_it(
    keeper: Keeper, store: Store
) -> None:
    store.held = [OBJECT]
    keeper.restore(1, [], lambda _: False)
    applied(keeper, 2, 5, OTHER)  # of a term that may be long over
    durable(keeper, 2)
    keeper.term_began(6)
    applied(keeper, 3, 6, OTHER)
    durable(keeper, 3)
    assert OBJECT not in store.released
    applied(keeper, 4, 7, OTHER)
    durable(keeper, 4)
    assert OBJECT in store.released


def test_what_was_placed_before_a_restart_is_let_go_once_that_is_durable(keeper: Keeper, store: Store) -> None:
    store.held = [OBJECT]
    keeper.restore(3, [], lambda digest: digest == OBJECT)
    durable(keeper, 2)
    assert store.released == []
    durable(keeper, 3)
    assert store.released == [OBJECT]


def test_much_is_let_go_a_part_at_a_time(keeper: Keeper, store: Store) -> None:
    count = RELEASED_AT_ONCE + 1
    applied(keeper, 1, 1, *(b"%032d" % number for number in range(count)))
    durable(keeper, 1)
    assert len(store.released) == RELEASED_AT_ONCE
    durable(keeper, 1)
    assert len(set(store.released)) == count


def test_g2_what_this_folder_refuses_is_kept_though_the_index_is_durable(keeper: Keeper, store: Store) -> None:
    applied(keeper, 1, 1, OBJECT, OTHER)
    store.refused = {OBJECT}
    durable(keeper, 1)
    assert store.released == [OTHER]
    store.refused = set()
    durable(keeper, 1)
    assert store.released == [OTHER, OBJECT]


def test_g2_what_came_for_the_folder_is_let_go_once_the_folder_has_it_for_good(keeper: Keeper, store: Store) -> None:
    keeper.done_with(OBJECT, 3)
    keeper.pin(OTHER, 1)
    keeper.done_with(OTHER, 3)
    durable(keeper, 2)
    assert store.released == []
    durable(keeper, 3)
    assert store.released == [OBJECT]
