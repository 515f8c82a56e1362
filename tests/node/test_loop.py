"""In which order a node takes up its work."""

from types import SimpleNamespace
from typing import Any

from onefold.node.loop import Node


async def test_g4_a_node_without_a_base_places_nothing_before_it_has_applied_through_the_logs_end() -> None:
    done: list[str] = []

    async def head() -> int:
        return 7

    async def reach(index: int) -> None:
        done.append(f"reach {index}")

    async def place() -> None:
        done.append("place")

    ports = SimpleNamespace(clock=None, log=SimpleNamespace(head=head))
    node: Any = SimpleNamespace(
        _joined=False, _ports=ports, applier=SimpleNamespace(reach=reach), placer=SimpleNamespace(run=place)
    )
    await Node._place(node)
    assert done == ["reach 7", "place"]
    node._joined = True
    await Node._place(node)
    assert done == ["reach 7", "place", "place"]
