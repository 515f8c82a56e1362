"""Programs run after changes, on real nodes: on every node, for its own edits and for those of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cluster import Demo, demo, eventually

HOOKS = r"""
[[hooks]]
name = "told"
match = ["*.conf", "!local.conf"]
run = ["sh", "-c", '(echo; tr "\\000" "\\n" < "$ONEFOLD_PATHS_FILE") >> "../told-$ONEFOLD_NODE"']
debounce_ms = 100

[[hooks]]
name = "check"
match = "check"
run = ["sh", "-c", "test ! -s check || { cat check; exit 1; }"]
debounce_ms = 100

[[hooks]]
name = "slow"
match = "slow"
run = ["sh", "-c", "echo $ONEFOLD_NODE >> ../slow; exec sleep 30"]
debounce_ms = 100
"""


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("hooks") / "data", settings=HOOKS) as running:
        yield running


def told(hooked: Demo, node: str) -> list[str]:
    """Every path that the first hook was told on `node`; "" where a run began."""
    file = hooked.data / f"told-{node}"
    return file.read_text().splitlines() if file.exists() else []


def hook(hooked: Demo, node: str, name: str) -> dict[str, Any]:
    return next(hook for hook in hooked.status()["nodes"][node]["hooks"] if hook["name"] == name)


def ended(hooked: Demo, node: str, name: str) -> bool:
    state = hook(hooked, node, name)
    return not state["running"] and not state["waiting"] and state["last"] is not None


def test_a_hook_is_run_on_every_node_with_what_changed_there(hooked: Demo) -> None:
    leader = hooked.folder("node1")
    (leader / "sites").mkdir()
    for name in ("a.conf", "b.conf", "local.conf", "c.txt"):
        (leader / "sites" / name).write_text(name)
    hooked.settled("node1")
    for node in hooked.nodes:
        eventually(lambda node=node: {"sites/a.conf", "sites/b.conf"} <= set(told(hooked, node)), f"the hook of {node}")
        assert set(told(hooked, node)) == {"", "sites/a.conf", "sites/b.conf"}


def test_a_moved_tree_and_a_removed_file_are_changes_of_what_matches(hooked: Demo) -> None:
    leader = hooked.folder("node1")
    (leader / "tree" / "deep").mkdir(parents=True)
    (leader / "tree" / "deep" / "t.conf").write_text("t")
    hooked.settled("node1")
    (leader / "tree").rename(leader / "moved")
    hooked.settled("node1")
    for node in hooked.nodes:
        eventually(lambda node=node: "moved/deep/t.conf" in told(hooked, node), f"the hook of {node}")
        assert "tree/deep/t.conf" in told(hooked, node)
    (leader / "moved" / "deep" / "t.conf").unlink()
    hooked.settled("node1")
    for node in hooked.nodes:
        eventually(lambda node=node: told(hooked, node).count("moved/deep/t.conf") == 2, f"the hook of {node}")


def test_a_hook_that_fails_is_a_problem_until_it_succeeds(hooked: Demo) -> None:
    check = hooked.folder("node1") / "check"
    check.write_text("syntax error in line 3\n")
    for node in hooked.nodes:
        eventually(lambda node=node: ended(hooked, node, "check"), f"the hook of {node}")
        last = hook(hooked, node, "check")["last"]
        assert (last["code"], last["failure"], last["line"]) == (1, "exit code 1", "syntax error in line 3")
        (problem,) = hooked.status()["nodes"][node]["problems"]
        assert problem["what"] == "the hook check failed (exit code 1): syntax error in line 3"
    assert "node2: the hook check ran at" in hooked.does("status")
    check.write_text("")
    for node in hooked.nodes:
        eventually(lambda node=node: not hooked.status()["nodes"][node]["problems"], f"the end of {node}'s problem")


def test_a_hook_that_takes_long_holds_no_edit_up_and_is_run_again_after_a_kill(hooked: Demo) -> None:
    leader = hooked.folder("node1")
    runs = hooked.data / "slow"
    (leader / "slow").write_text("1")
    eventually(lambda: runs.exists() and len(runs.read_text().split()) == 3, "the slow hook, everywhere")
    (leader / "next").write_text("edits flow on")
    hooked.settled("node1")
    hooked.kill_node("node3")
    hooked.start_node("node3")
    eventually(lambda: runs.read_text().split().count("node3") == 2, "the hook, once more")
    assert sorted(set(runs.read_text().split())) == ["node1", "node2", "node3"]
