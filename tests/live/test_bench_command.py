"""`onefold bench` on a real cluster: every figure is there, and nothing is left in the folder."""

from __future__ import annotations

import json

from cluster import Demo


def test_bench_measures_all_it_is_asked_for_and_removes_what_it_wrote(shared: Demo) -> None:
    told = shared.does("bench", "--edits", "40", "--files", "20", "--large", "1", "--json")
    edits, files, large = json.loads(told)
    assert (edits["name"], edits["times"]) == ("edit of 1 KiB", 40)
    assert 0 < edits["figures"]["committed_median_ms"] <= edits["figures"]["everywhere_median_ms"]
    assert (files["name"], files["times"]) == ("files of 4 KiB", 20)
    assert files["figures"]["files_per_s"] > 0
    assert large["figures"]["everywhere_s"] >= large["figures"]["committed_s"] > 0
    shared.does("wait")
    assert not [path for folder in shared.folders() for path in folder.glob("onefold-bench-*")]
