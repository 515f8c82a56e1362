"""The benchmark: that it runs, and that it compares what it says. Never how fast anything is."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parent.parent / "bench"
SCENARIOS = ["edit", "small", "rename", "delete", "large", "delta", "idle"]
TINY = ["--files=20", "--mib=1", "--edits=3", "--gap=0.01", "--pause=0.1", "--idle=0.5", "--rounds=1", "--limit=60"]


def bench(program: str, *options: str, work: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / program), "--work", str(work), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


@pytest.fixture
def replication(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("replication")


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("measure")


def test_replication_measures_every_scenario_of_both_tools_and_leaves_nothing(
    replication: ModuleType, tmp_path: Path
) -> None:
    if not importlib.import_module("tools").installed("rsync"):
        pytest.skip("rsync is not installed")
    done = bench("replication.py", "--tools", "onefold,rsync", "--json", *TINY, work=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for tool in ("onefold", "rsync"):
        rows = {row["scenario"]: row for row in found["rows"] if row["tool"] == tool}
        assert list(rows) == SCENARIOS
        assert all(row["seconds"] is not None for row in rows.values()), rows
    ratios = {entry["scenario"]: entry["ratio"] for entry in found["summary"] if entry["tool"] == "onefold"}
    assert all(ratios[scenario] > 0 for scenario in SCENARIOS if scenario != "idle")
    assert not list(tmp_path.iterdir())


def test_an_unknown_scenario_is_one_sentence(tmp_path: Path) -> None:
    done = bench("replication.py", "--scenarios", "edit,nap", work=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("onefold: there is no scenario 'nap': choose from edit, ")
    assert not list(tmp_path.iterdir())


def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in "abc"]
    for folder in made:
        (folder / "full").mkdir(parents=True)
        (folder / "full" / "file").write_text("same")
    return made


def test_folders_with_the_same_bytes_are_identical_whatever_onefold_keeps_in_them(
    measure: ModuleType, tmp_path: Path
) -> None:
    made = folders(tmp_path)
    (made[1] / ".onefold").mkdir()
    assert measure.identical(made, None)


@pytest.mark.parametrize("path", ["full/file", "full/other", "full/.onefold"])
def test_one_file_of_the_same_size_with_other_bytes_or_one_more_is_a_difference(
    measure: ModuleType, tmp_path: Path, path: str
) -> None:
    made = folders(tmp_path)
    (made[2] / path).write_text("SAME")
    assert not measure.identical(made, None)


def test_an_empty_directory_is_a_difference(measure: ModuleType, tmp_path: Path) -> None:
    made = folders(tmp_path)
    (made[0] / "empty").mkdir()
    assert not measure.identical(made, None)


def test_ratios_are_to_the_floor_of_the_same_round_and_a_failure_is_the_worst_of_them(replication: ModuleType) -> None:
    def row(round_: int, tool: str, seconds: float) -> object:
        return replication.Row(round_, tool, "small", seconds, 0.0, 0.0, {})

    rows = [row(1, "onefold", 2.0), row(1, "rsync", 1.0), row(2, "onefold", 30.0), row(2, "rsync", 10.0)]
    rows += [row(3, "onefold", math.inf), row(3, "rsync", 1.0)]
    onefold, floor = replication.summary(rows)
    assert (onefold["tool"], onefold["ratio"]) == ("onefold", 3.0)
    assert onefold["max"] == math.inf
    assert floor["ratio"] == 1.0
