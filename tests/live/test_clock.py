"""A clock that jumps by hours either way while the nodes run, and while they start: nothing depends on it.

The jump is made for our processes alone, by a library that is loaded before all others. etcd asks the kernel itself,
which no such library can change; its leases run on the monotonic clock.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import cluster
import pytest
from cluster import demo

LIBRARY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) {
        char text[32] = {0};
        int file = open(getenv("JUMP"), O_RDONLY | O_CLOEXEC);
        if (file >= 0 && read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
        if (file >= 0) close(file);
    }
    return failed;
}
"""
HOURS = 3600


@pytest.mark.slow
def test_a_clock_that_jumps_by_hours_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler, for the library that makes the clock jump")
    library, jump = tmp_path / "jump.so", tmp_path / "jump"
    (tmp_path / "jump.c").write_text(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "jump.c"], check=True)
    monkeypatch.setattr(cluster, "ONEFOLD", ["env", f"LD_PRELOAD={library}", f"JUMP={jump}", *cluster.ONEFOLD])
    jump.write_text("0")
    draw = random.Random(1)
    with demo(tmp_path / "data", "--writers", "any") as running:
        written: dict[str, bytes] = {}

        def edit(count: int) -> None:
            for _ in range(count):
                node = draw.choice(sorted(running.live))
                path = f"{node}-{draw.randrange(20)}"  # each node has files of its own: no conflict explains a loss
                written[path] = draw.randbytes(draw.randrange(1, 40_000))
                (running.folder(node) / path).write_bytes(written[path])

        def all_is_there() -> None:
            running.settled()
            for node in running.nodes:
                assert {path: (running.folder(node) / path).read_bytes() for path in written} == written

        for seconds in (6 * HOURS, -6 * HOURS, 0, -12 * HOURS):
            edit(20)
            jump.write_text(str(seconds))
            edit(20)
            all_is_there()
        leader = running.leader()
        running.stop_node("node2")  # starts anew 12 hours before it first did
        running.start_node("node2")
        edit(20)
        all_is_there()
        assert running.leader() == leader
        assert {node: found["strays"] for node, found in running.status()["nodes"].items()} == {
            "node1": 0,
            "node2": 0,
            "node3": 0,
        }
