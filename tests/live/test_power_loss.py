"""G2, G3: what a crash of the machine leaves half there is nobody's edit, also on a node that leads right afterwards.

`tests/faults` takes the power away in earnest; here its traces are laid by hand, so that each is met every time.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cluster import demo, eventually

LONG = b"z" * 300_000


def forget(state: Path, rolled_back: bool) -> None:
    """As after a crash: another boot of the machine, and nothing was synced. `rolled_back`: nor is it in the base."""
    with closing(sqlite3.connect(state / "base.db")) as base, base:
        base.execute("UPDATE meta SET value = 'an earlier one' WHERE key = 'boot_id'")
        if rolled_back:
            base.execute("DELETE FROM rows")
    with closing(sqlite3.connect(state / "catalogue.db")) as catalogue, catalogue:
        catalogue.execute("DELETE FROM meta WHERE key = 'durable'")
    shutil.rmtree(state / "recent")


def damage(folder: Path) -> None:
    """What file systems make of files whose data was on its way: empty and short ones, and zeros under an old stat."""
    os.truncate(folder / "empty", 0)
    os.truncate(folder / "short", 100_000)
    before = (folder / "zeros").stat()
    (folder / "zeros").write_bytes(bytes(before.st_size))
    os.utime(folder / "zeros", ns=(before.st_atime_ns, before.st_mtime_ns))


ONE, ALL = ["node2"], ["node1", "node2", "node3"]


@pytest.mark.parametrize(
    ("victims", "rolled_back"),
    [
        pytest.param(ALL, True, id="all-base-rolled-back"),
        pytest.param(ALL, False, id="all-base-kept", marks=pytest.mark.slow),
        pytest.param(ONE, True, id="one-base-rolled-back", marks=pytest.mark.slow),
        pytest.param(ONE, False, id="one-base-kept", marks=pytest.mark.slow),
    ],
)
def test_what_a_crash_left_half_there_is_kept_aside_and_the_committed_version_returns(
    tmp_path: Path, victims: list[str], rolled_back: bool
) -> None:
    with demo(tmp_path / "data", "--writers", "any") as running:
        folder = running.folder("node2")
        for name in ("empty", "zeros", "whole"):
            (folder / name).write_text(f"{name}, as committed")
        (folder / "short").write_bytes(LONG)
        committed = running.settled("node2")
        for node in victims:
            running.kill_node(node)
        for node in victims:
            damage(running.folder(node))
            forget(running.nodes[node].state, rolled_back)
        for node in victims:
            running.start_node(node)
        running.wait()
        eventually(lambda: all(told["role"] != "down" for told in running.status()["nodes"].values()), "all nodes")
        assert running.settled() == committed
        for node in running.nodes:
            kept = {path: data for path, data in running.strays(node) if data}
            assert kept == ({"short": LONG[:100_000], "zeros": bytes(19)} if node in victims else {})
        (folder / "whole").write_text("edited afterwards")
        assert running.settled("node2")[b"whole"].content == b"edited afterwards"
