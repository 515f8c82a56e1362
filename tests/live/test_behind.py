"""G1, G3, G5: a node that was away for longer than the log reaches back, or lost what it knew."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import Demo, demo, eventually, inodes

KEPT = 100
MANY = 1_500


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Demo]:
    """A demo whose log is soon trimmed."""
    with demo(tmp_path / "data", settings=f"[etcd]\nentries_kept = {KEPT}") as running:
        yield running


def fill(running: Demo) -> None:
    """Files of all kinds on the leader, everywhere."""
    folder = running.folder("node1")
    for number in range(MANY):
        below = folder / f"d{number % 20}"
        below.mkdir(exist_ok=True)
        (below / f"f{number}").write_bytes(b"%d" % number * 100)
    (folder / "large").write_bytes(os.urandom(5_000_000))
    (folder / "link").symlink_to("large")
    (folder / "empty").mkdir()
    running.settled("node1")


def outrun_the_log(running: Demo) -> None:
    """Edit on the leader until the log no longer holds what came before, and an object of that time is let go."""
    file = running.folder("node1") / "counter"
    for number in range(KEPT + KEPT // 4):
        file.write_text(str(number))
        running.wait()
    head = running.status()["nodes"]["node1"]["applied"]
    log = running.nodes["node1"].state / "onefold.log"
    trimmed = [f"through={index}" for index in range(head - KEPT - KEPT // 4, head)]
    eventually(lambda: any(each in log.read_text() for each in trimmed), "a trimmed log")


def objects(running: Demo, node: str) -> list[str]:
    return [file.name for file in (running.nodes[node].state / "objects").glob("??/*")]


def forget(running: Demo, node: str) -> None:
    """All that `node` knows is lost, but for its etcd and its certificates; and half of its folder."""
    config = running.nodes[node]
    for path in config.state.iterdir():
        if path.name not in ("etcd", "tls", "node.toml", "onefold.log"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(config.folder / ".onefold")
    for number in range(3, 13):
        shutil.rmtree(config.folder / f"d{number}")
    (config.folder / "large").unlink()


@contextmanager
def writer(folder: Path) -> Iterator[None]:
    """Somebody edits in `folder` all the time."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.wait(0.01):
            number += 1
            (folder / f"w{number % 50}").write_text(str(number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_node_that_is_behind_the_trimmed_log_takes_a_peers_catalogue(short: Demo) -> None:
    fill(short)
    assert objects(short, "node2")
    short.kill_node("node3")
    away = short.folder("node3")
    (away / "d15" / "f15").write_text("written while it was away")
    (short.folder("node1") / "d1").rename(short.folder("node1") / "moved")
    shutil.rmtree(short.folder("node1") / "d2")
    before = inodes(away)
    outrun_the_log(short)
    eventually(lambda: not objects(short, "node2"), "the release of packs that the log names no more")
    with writer(short.folder("node1")):
        short.start_node("node3")
        short.wait()
    found = short.settled("node1")
    assert found[b"d15/f15"].content != b"written while it was away"
    assert short.strays("node3") == [("d15/f15", b"written while it was away")]
    after = inodes(away)
    assert after[b"d3/f3"] == before[b"d3/f3"]
    assert after[b"moved/f1"] == before[b"d1/f1"]  # it knew that directory, and moved it
    assert "took the catalogue" in (short.nodes["node3"].state / "onefold.log").read_text()

    short.kill_node("node3")
    forget(short, "node3")
    kept = inodes(away)
    with writer(short.folder("node1")):
        short.start_node("node3")
        short.wait()
    short.settled("node1")
    busy = {b"w%d" % number for number in range(50)}
    after = inodes(away)
    assert {path for path in kept if kept[path] != after.get(path)} <= busy
    assert {os.fsencode(path) for path, _ in short.strays("node3")} <= {
        b"d15/f15"
    } | busy  # nobody knows who wrote them
