"""How fast an edit, a tree and a large file are on three nodes, beside other tools in the same run: see README.md."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from demo import FIRST_PORT, first, scratch
from measure import median, quantile
from scenarios import SCENARIOS, Row, Scenarios, Sizes
from tools import chosen, make

from onefold.cli import fail
from onefold.errors import OnefoldError, UserError

FLOOR = "rsync"
"""Ratios are to this tool."""


def measure(
    tools: Sequence[str], scenarios: Sequence[str], sizes: Sizes, rounds: int, work: Path, base_port: int
) -> list[Row]:
    """All rows: in every round each tool has its turn, new in a directory of its own."""
    rows = []
    for round_ in range(1, rounds + 1):
        for name in tools:
            os.sync()  # what the tool before has left to write must not burden this one
            tool = make(name, work / f"{round_}-{name}", base_port)
            try:
                tool.start()
                running = Scenarios(tool, round_, sizes)
                for scenario in scenarios:
                    rows.append(SCENARIOS[scenario](running))
                    _progress(rows[-1])
            finally:
                tool.stop()
            shutil.rmtree(tool.work)
    return rows


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per scenario and tool: the figures over all rounds, and their ratio to the floor's of the same round."""
    found = []
    for scenario, tool in dict.fromkeys((row.scenario, row.tool) for row in rows):
        mine = [row for row in rows if (row.scenario, row.tool) == (scenario, tool)]
        seconds = [row.seconds for row in mine]
        ratios = _ratios(mine, [row for row in rows if (row.scenario, row.tool) == (scenario, FLOOR)])
        entry: dict[str, Any] = {
            "scenario": scenario,
            "tool": tool,
            "rounds": len(mine),
            "min": min(seconds),
            "median": median(seconds),
            "max": max(seconds),
            "ratio": median(ratios) if ratios else None,
            "cpu_seconds": median([row.cpu_seconds for row in mine]),
            "wire_mib": median([row.wire_mib for row in mine]),
        }
        if scenario == "edit":
            edits = [each for row in mine for each in row.more["edits_ms"]]
            entry |= {f"p{part}_ms": quantile(edits, part / 100) for part in (50, 90, 99)} | {"max_ms": max(edits)}
        if scenario == "idle":
            entry |= {of: median([row.more[of] for row in mine]) for of in ("resident_mib", "largest_process_mib")}
        found.append(entry)
    order = list(SCENARIOS)
    return sorted(found, key=lambda entry: order.index(entry["scenario"]))


def _ratios(mine: Iterable[Row], floor: Iterable[Row]) -> list[float]:
    """Of the same round; infinite where only the floor came to an end. None where the floor is nothing (`idle`)."""
    of_round = {row.round: row.seconds for row in floor}
    pairs = [(row.seconds, of_round[row.round]) for row in mine if row.round in of_round]
    return [seconds / below for seconds, below in pairs if 0 < below < math.inf]


def _table(entries: Sequence[dict[str, Any]]) -> str:
    lines = ["scenario tool        min   median      max  x rsync   CPU s  wire MiB"]
    for entry in entries:
        low, middle, high = (_figure(entry[of]) for of in ("min", "median", "max"))
        ratio = _figure(entry["ratio"])
        line = f"{entry['scenario']:8} {entry['tool']:8} {low:>7} {middle:>8} {high:>8} {ratio:>8}"
        line += f" {entry['cpu_seconds']:7.2f} {entry['wire_mib']:9.1f}"
        if entry["scenario"] == "edit":
            line += "  ms: " + ", ".join(f"{of[:-3]} {_figure(entry[of])}" for of in ("p50_ms", "p90_ms", "p99_ms"))
            line += f", max {_figure(entry['max_ms'])}"
        if entry["scenario"] == "idle":
            line += f"  MiB: {entry['resident_mib']:.0f}, largest process {entry['largest_process_mib']:.0f}"
        lines.append(line)
    lines.append("Seconds until all three folders are identical; edit: of the median edit; idle: CPU seconds in ten.")
    return "\n".join(lines)


def _figure(figure: float | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:.4g}" if math.isfinite(figure) else "never"


def _plain(value: Any) -> Any:
    """JSON has no infinity: what did not come about is null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value


def _progress(row: Row) -> None:
    figure = _figure(row.seconds)
    print(f"round {row.round}: {row.tool} {row.scenario} {figure} s", file=sys.stderr, flush=True)


def main() -> None:
    sizes = Sizes()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", default="", help="which, in their order; default: all that are installed")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="which; always in this order")
    parser.add_argument("--files", type=int, default=sizes.files, help="of small, rename and delete")
    parser.add_argument("--mib", type=int, default=sizes.mib, help="of large and delta")
    parser.add_argument("--edits", type=int, default=sizes.edits)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gap", type=float, default=sizes.gap, help="seconds between two edits")
    parser.add_argument("--pause", type=float, default=sizes.pause, help="seconds before each scenario")
    parser.add_argument("--idle", type=float, default=sizes.idle, help="seconds of idle")
    parser.add_argument("--limit", type=float, default=sizes.limit, help="seconds after which a scenario has failed")
    parser.add_argument("--work", type=Path, help="where to work: on the disk that is to be measured")
    parser.add_argument("--base-port", type=int, default=FIRST_PORT, help="where to look for free ports")
    parser.add_argument("--json", action="store_true", help="all rows and the summary, for programs")
    given = parser.parse_args()
    for option in ("files", "mib", "edits", "rounds", "idle"):
        if getattr(given, option) <= 0:
            parser.error(f"--{option} must be above 0")
    try:
        wanted = given.scenarios.split(",")
        for name in wanted:
            if name not in SCENARIOS:
                raise UserError(f"there is no scenario {name!r}", f"choose from {', '.join(SCENARIOS)}")
        tools = chosen(given.tools)
        sizes = Sizes(**{of: getattr(given, of) for of in Sizes._fields})
        with scratch(given.work) as work:
            in_order = [name for name in SCENARIOS if name in wanted]
            rows = measure(tools, in_order, sizes, given.rounds, work, given.base_port)
    except* OnefoldError as errors:
        fail(first(errors))
    entries = summary(rows)
    if given.json:
        print(json.dumps(_plain({"summary": entries, "rows": [row._asdict() for row in rows]}), indent=2))
    else:
        print(_table(entries))


if __name__ == "__main__":
    main()
