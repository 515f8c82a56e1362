"""G2, G3, G5, G6: cables that are cut, and machines that stand still, while somebody goes on writing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import eventually
from machines import Machines

faults = pytest.mark.faults


def edit(running: Machines, node: str, name: str, *on: str) -> None:
    """Make a file on `node`; return once it is `on` the others."""
    (running.folder(node) / name).write_text(f"{name} by {node}")
    eventually(lambda: all((running.folder(other) / name).exists() for other in on), f"{name} on {' and '.join(on)}")


@contextmanager
def writer(folder: Path) -> Iterator[list[str]]:
    """Somebody makes file after file in `folder`; answers the names so far."""
    done = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not done.is_set():
            name = f"w{len(written)}"
            (folder / name).write_text(name)
            written.append(name)
            done.wait(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        done.set()
        thread.join()


def alone(running: Machines, node: str) -> bool:
    """Whether it says that it reaches no majority."""
    problems = running.status(node)["nodes"].get(node, {"problems": []})["problems"]
    return any("majority" in problem["what"] for problem in problems)


def nothing_is_lost(running: Machines, written: list[str], where: str) -> None:
    """Each is in the folder everywhere, or was kept aside on `where`, with what was written into it."""
    found = {os.fsdecode(path): entry.content for path, entry in running.settled().items()}
    kept = dict(running.strays(where))
    for name in written:
        assert name.encode() in (found.get(name), kept.get(name)), f"{name} is lost"


def test_a_follower_that_is_cut_off_is_waited_for_by_nobody_and_catches_up(trio: Machines) -> None:
    edit(trio, "a", "before", "b", "c")
    trio.network.cut("c", "a", "b")
    edit(trio, "a", "meanwhile", "b")
    (trio.folder("a") / "before").rename(trio.folder("a") / "renamed")
    (trio.folder("a") / "large").write_bytes(os.urandom(3_000_000))
    eventually(lambda: (trio.folder("b") / "large").exists(), "the large file")
    assert not (trio.folder("c") / "meanwhile").exists()
    trio.network.mend()
    trio.whole()
    assert set(trio.settled("a")) == {b"meanwhile", b"renamed", b"large"}
    assert trio.strays("c") == []


@faults
def test_a_leader_that_is_cut_off_is_replaced_and_nothing_written_to_it_is_lost(trio: Machines) -> None:
    edit(trio, "a", "before", "b", "c")
    with writer(trio.folder("a")) as written:
        eventually(lambda: len(written) > 50)
        trio.network.cut("a", "b", "c")
        leader = trio.leads("b", "c")
        (other,) = {"b", "c"} - {leader}
        edit(trio, leader, "meanwhile", other)
        before = len(written)
        eventually(lambda: len(written) > before + 50)
        eventually(lambda: alone(trio, "a"), "a problem of the old leader's")
    trio.network.mend()
    trio.whole()
    nothing_is_lost(trio, written, "a")
    edit(trio, "a", "after", "b", "c")


@faults
def test_without_a_majority_edits_wait_and_then_nothing_is_lost(trio: Machines) -> None:
    edit(trio, "a", "before", "b", "c")
    trio.network.cut("a", "b", "c")
    trio.network.cut("b", "c")
    eventually(lambda: all(alone(trio, node) for node in "abc"), "a problem of each of them")
    for node in "abc":
        (trio.folder(node) / f"by-{node}").write_text(f"by-{node}")
        (trio.folder(node) / "before").write_text(f"edited on {node}")
    trio.network.mend()
    trio.whole()
    found = {entry.content for entry in trio.settled().values()}
    kept = {data for node in "abc" for _, data in trio.strays(node)}
    for node in "abc":
        assert {f"by-{node}".encode(), f"edited on {node}".encode()} <= found | kept


@faults
def test_one_bad_cable_deposes_nobody_and_edits_find_their_way(trio: Machines) -> None:
    edit(trio, "a", "before", "b", "c")
    term = trio.status("a")["term"]
    trio.network.cut("a", "b")
    edit(trio, "a", "small", "b", "c")
    (trio.folder("a") / "large").write_bytes(os.urandom(3_000_000))
    eventually(lambda: (trio.folder("b") / "large").exists(), "the large file by way of c")
    assert (trio.status("a")["term"], trio.status("c")["leader"]) == (term, "a")
    trio.network.mend()
    trio.whole()
    trio.settled("a")


@faults
def test_a_leader_that_stood_still_for_longer_than_its_lease_has_no_say(trio: Machines) -> None:
    edit(trio, "a", "before", "b", "c")
    with writer(trio.folder("a")) as written:
        eventually(lambda: len(written) > 50)
        trio.signal("a", signal.SIGSTOP)
        leader = trio.leads("b", "c")
        (other,) = {"b", "c"} - {leader}
        (trio.folder(leader) / "before").write_text("edited on the new leader")
        (trio.folder("a") / "before").write_text("edited on the old one")
        eventually(lambda: (trio.folder(other) / "before").read_text() == "edited on the new leader", "the edit")
        trio.signal("a", signal.SIGCONT)
        edit(trio, leader, "meanwhile", other, "a")
    trio.whole()
    nothing_is_lost(trio, written, "a")
    assert trio.settled()[b"before"].content == b"edited on the new leader"
    assert ("before", b"edited on the old one") in trio.strays("a")
