"""The command line: one sentence and an exit code for what goes wrong, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from onefold import demo_dir
from onefold.config import load
from onefold.core.messages import HookRun, HookState, Problem, Recent, Report
from onefold.demo import all_ready
from onefold.demo_view import Events, Seen, change, hook_line, printable, table
from onefold.errors import BadSetting, UserError
from onefold.status import State, as_json


def onefold(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "onefold", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


def report(node: str, **other: object) -> Report:
    facts: dict[str, object] = {
        "node": node,
        "incarnation": 1,
        "role": "voter",
        "leader": "node1",
        "term": 7,
        "applied": 3,
        "in_place": 3,
        "durable": 2,
        "digests": ((2, b"old"), (3, b"new")),
        "files": 4,
        "strays": 0,
        "problems": (),
        "reaches": (),
        "preferred": False,
        "ready": True,
    }
    return Report(**(facts | other))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["status"], 2, "there is no demo in"),
        (["wait", "--data", "none"], 2, "there is no demo in"),
        (["leader", "show"], 2, "there is no demo in"),
        (["verify", "--repair"], 2, "there is no demo in"),
        (["run", "--config", "none.toml"], 2, "there is no"),
        (["node", "--config", "none.toml"], 2, "there is no"),
        (["demo", "stop", "node1"], 2, "there is no demo in"),
        (["demo", "--nodes", "10"], 2, "give a number from 1 to 9"),
        (["demo", "--writers", "all"], 2, "give leader or any"),
        (["demo", "--base-port", "80"], 2, "give a port from 1024"),
        (["demo", "--data", "file"], 3, "cannot make the directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    (tmp_path / "file").touch()
    done = onefold(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_every_command_explains_itself(tmp_path: Path) -> None:
    for command in ([], ["demo"], ["demo", "start"], ["run"], ["status"], ["wait"], ["leader", "move"]):
        done = onefold(*command, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert "Usage" in done.stdout


# ------------------------------------------------------------------------------------------------ the demo's directory


@pytest.mark.parametrize(("nodes", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)])
def test_voters_are_an_odd_number_and_at_most_five(nodes: int, voters: int) -> None:
    assert demo_dir.voters(nodes) == voters


def test_a_demo_is_prepared_once_and_then_resumed(tmp_path: Path) -> None:
    first = demo_dir.prepare(tmp_path, demo_dir.Wanted(4, 7600, "any"))
    again = demo_dir.prepare(tmp_path, demo_dir.Wanted())
    assert first == again == demo_dir.configs(tmp_path)
    assert [config.name for config in first if config.preferred] == ["node1"]
    assert [member.name for member in first[0].voters] == ["node1", "node2", "node3"]
    assert {config.writers for config in first} == {"any"}
    assert all(key.stat().st_mode & 0o077 == 0 for c in first for key in (c.tls.key, c.tls.admin.key))


def test_an_interrupted_preparation_is_completed(tmp_path: Path) -> None:
    first = demo_dir.prepare(tmp_path, demo_dir.Wanted(2))
    kept = first[0].tls.cert.read_bytes()
    first[1].tls.cert.unlink()
    first[1].tls.admin.cert.unlink()
    first[1].path.unlink()
    assert demo_dir.prepare(tmp_path, demo_dir.Wanted(2)) == first
    assert first[0].tls.cert.read_bytes() == kept
    assert first[1].tls.cert.exists()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (demo_dir.Wanted(nodes=5), "made with --nodes 3, not 5"),
        (demo_dir.Wanted(base_port=7000), "made with --base-port 7400, not 7000"),
        (demo_dir.Wanted(writers="any"), "made with --writers leader, not any"),
    ],
)
def test_a_demo_is_not_resumed_with_other_options(tmp_path: Path, wanted: demo_dir.Wanted, says: str) -> None:
    demo_dir.prepare(tmp_path, demo_dir.Wanted())
    with pytest.raises(BadSetting, match=says):
        demo_dir.prepare(tmp_path, wanted)


def test_an_unusual_directory_survives_its_settings_file(tmp_path: Path) -> None:
    data = tmp_path / 'a "b" \\ é'
    (config,) = demo_dir.prepare(data, demo_dir.Wanted(1))
    assert load(config.path).folder == data / "node1"
    with pytest.raises(BadSetting, match="unprintable"):
        demo_dir.prepare(tmp_path / "new\nline", demo_dir.Wanted(1))


def test_a_misspelt_node_is_recognised(tmp_path: Path) -> None:
    demo_dir.prepare(tmp_path, demo_dir.Wanted(2))
    with pytest.raises(UserError, match="did you mean node2"):
        demo_dir.find(tmp_path, "nod2")


def test_commands_to_a_demo_that_does_not_run_say_so(tmp_path: Path) -> None:
    demo_dir.prepare(tmp_path / "data", demo_dir.Wanted(1))
    for command in ("start", "stop", "kill"):
        done = onefold("demo", command, "node1", cwd=tmp_path)
        assert done.returncode == 2
        assert "no demo is running in" in done.stderr


def test_status_of_a_cluster_that_is_down_says_so_and_fails(tmp_path: Path) -> None:
    demo_dir.prepare(tmp_path / "data", demo_dir.Wanted(1, base_port=7650))
    done = onefold("status", "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert [node["role"] for node in json.loads(done.stdout)["nodes"]] == ["down"]
    assert "no node answers (node1)" in done.stderr


def test_a_command_works_from_a_directory_that_holds_modules_named_like_ours(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise SystemExit(99)")
    (tmp_path / "typer.py").write_text("raise SystemExit(99)")
    assert onefold("--help", cwd=tmp_path).returncode == 0


# ------------------------------------------------------------------------------------------------ what is shown


def test_how_a_hook_is_and_ran_is_one_line() -> None:
    assert hook_line(HookState("web", False, False, None)) == "the hook web has not run yet"
    done = HookRun(0.0, 1.25, 3, 0, "ok", "")
    line = hook_line(HookState("web", False, True, done))
    assert line.startswith("the hook web waits for its changes to rest; ran at ")
    assert line.endswith(" for 1.2 s, done")
    failed = replace(done, code=1, failure="exit code 1")
    assert hook_line(HookState("web", True, False, failed)).endswith("for 1.2 s, exit code 1")


def test_json_tells_how_hooks_ran() -> None:
    ran = HookRun(0.0, 1.25, 3, 1, "no", "exit code 1")
    state = State("node1", 7, {"node1": report("node1", hooks=(HookState("web", False, True, ran),))}, {})
    (told,) = json.loads(as_json(state))["nodes"][0]["hooks"]
    assert (told["name"], told["running"], told["waiting"]) == ("web", False, True)
    assert told["last"] == {
        "began": 0.0,
        "seconds": 1.25,
        "paths": 3,
        "code": 1,
        "line": "no",
        "failure": "exit code 1",
    }


def test_json_has_what_programs_need() -> None:
    problem = Problem("cannot write", "a/b", "make room")
    state = State("node1", 7, {"node1": report("node1", role="leader", problems=(problem,)), "node2": None}, {})
    shown = json.loads(as_json(state))
    assert (shown["leader"], shown["term"]) == ("node1", 7)
    up, down = shown["nodes"]
    assert up == {
        "name": "node1",
        "role": "leader",
        "applied": 3,
        "in_place": 3,
        "durable": 2,
        "digest": b"new".hex(),
        "files": 4,
        "strays": 0,
        "mended": 0,
        "progress": None,
        "hooks": [],
        "problems": [{"what": "cannot write", "where": "a/b", "fix": "make room"}],
    }
    assert down["role"] == "down"
    assert up.keys() == down.keys()


def test_ready_means_up_and_agreed_and_led_by_the_first() -> None:
    good = [report("node1"), report("node2")]
    assert all_ready(good, "node1")
    assert not all_ready([*good, None], "node1")
    assert not all_ready(good, "node2")
    for other in ({"ready": False}, {"in_place": 2}, {"applied": 4, "in_place": 4}, {"digests": ((3, b"x"),)}):
        assert not all_ready([*good, report("node3", **other)], "node1")


def test_events_tell_each_change_once() -> None:
    events = Events()
    up = [Seen("node1", True, None, report("node1", role="leader"))]
    assert events.of(up) == ["node1 is up as leader", "node1 leads (term 7)"]
    assert events.of(up) == []
    full = [
        Seen("node1", True, None, report("node1", role="leader", problems=(Problem("disk full", "", "make room"),)))
    ]
    assert events.of(full) == ["node1: disk full: make room"]
    assert events.of([Seen("node1", False, "killed (SIGKILL)", None)]) == ["node1 is down (killed (SIGKILL))"]


def test_an_entry_is_told_once_when_it_is_everywhere() -> None:
    events = Events()
    pending, done = Recent(5, "a", "put", 1, None), Recent(6, "b", "remove", 3, 2.5)
    assert events.arrived([pending, done]) == ["6: remove b and 2 more, everywhere in 2.5 ms"]
    assert events.arrived([]) == []
    assert events.arrived([Recent(5, "a", "put", 1, 9.0), done]) == ["5: put a, everywhere in 9.0 ms"]


def test_a_name_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in printable("\x1b[2J")
    assert "\x1b" not in change(Recent(1, "\x1b[2J\n", "put", 1, None))
    assert table([["[red]x", "down", *[""] * 7]]).row_count == 1
    assert os.fsencode(printable(os.fsdecode(b"\xff"))) == b"\\xff"
