"""How large a batch may be: peers must be able to take it in one message."""

import pytest

from onefold.core import wire
from onefold.core.messages import Forward, Hold
from onefold.core.model import Batch, Command, Id, Kind, Move, Origin, Pack, Put, Remove, Version
from onefold.edge.link import FRAME_BYTES_MAX
from onefold.node.append import BATCH_BYTES_MAX, PACK_BYTES_MAX, weight

BIG = (1 << 63) - 1
COUNT = 1000


def put(number: int, name: bytes, kind: Kind, content: bytes) -> Put:
    return Put(Id(BIG - number), Version(BIG), Id(BIG), name, kind, 0o777, BIG, BIG, content, Version(BIG))


@pytest.mark.parametrize(
    "command",
    [
        lambda n: put(n, b"n" * 255, Kind.FILE, b"%032d" % n),
        lambda n: put(n, b"n", Kind.FILE, b"%032d" % n),
        lambda n: put(n, b"n" * 255, Kind.SYMLINK, b"t" * 4095),
        lambda n: Move(Id(BIG), Version(BIG), Id(BIG), b"n" * 255, Version(BIG), Version(BIG)),
        lambda n: Remove(Id(BIG), Version(BIG), Version(BIG)),
    ],
)
def test_a_batch_is_never_larger_than_it_is_weighed(command: object) -> None:
    assert callable(command)
    commands: tuple[Command, ...] = tuple(command(number) for number in range(COUNT))
    contents = {b"%032d" % number: b"d" * 300 for number in range(COUNT)}
    if isinstance(commands[0], Put) and commands[0].kind is Kind.FILE:
        weighed = sum(map(weight, commands)) + 300 * COUNT
    else:
        weighed, contents = sum(map(weight, commands)), {}
    batch = Batch(Origin("a", BIG, BIG), commands)
    data = wire.encode_pack(Pack((batch,), contents))
    assert len(data) <= weighed
    assert len(wire.encode_message(Hold(b"d" * 32, len(data), data, ("a",)))) <= weighed + 200
    assert len(wire.encode_message(Forward(batch, contents, BIG))) <= weighed + 200


def test_peers_take_the_largest_batch_and_what_was_gathered_with_it() -> None:
    assert max(BATCH_BYTES_MAX, PACK_BYTES_MAX) + (1 << 20) < FRAME_BYTES_MAX
