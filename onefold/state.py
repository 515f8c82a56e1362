"""The cluster at one look: what each node says of itself, and the same as plain data for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from onefold.core.messages import STANDBY, Problem, Report


class State(NamedTuple):
    """The cluster as its live nodes see it: the leader of the newest term, and each member's report (None: down).

    `refused`: why a node that answers is down for us.
    """

    leader: str
    term: int
    nodes: Mapping[str, Report | None]
    refused: Mapping[str, Problem]

    @classmethod
    def of(cls, reports: Mapping[str, Report | None], refused: Mapping[str, Problem] | None = None) -> State:
        """Who leads is what the report of the newest term says."""
        newest = max((r for r in reports.values() if r is not None), key=lambda report: report.term, default=None)
        return cls(newest.leader if newest else "", newest.term if newest else 0, reports, refused or {})


def as_data(state: State) -> dict[str, Any]:
    """What `onefold status --json` and the API tell."""
    nodes = [{"name": name, **_facts(report, state.refused.get(name))} for name, report in state.nodes.items()]
    return {"leader": state.leader, "term": state.term, "nodes": nodes}


def problems_as_data(problems: Iterable[Problem]) -> list[dict[str, str]]:
    return [{"what": problem.what, "where": problem.where, "fix": problem.fix} for problem in problems]


def _facts(report: Report | None, refused: Problem | None) -> dict[str, Any]:
    if report is None or report.role == STANDBY:
        told = report.problems if report is not None else (refused,) if refused is not None else ()
        return {
            "role": "down" if report is None else report.role,
            "applied": None,
            "in_place": None,
            "durable": None,
            "digest": None,
            "files": None,
            "strays": None,
            "mended": None,
            "progress": None,
            "hooks": [],
            "problems": problems_as_data(told),
        }
    return {
        "role": report.role,
        "applied": report.applied,
        "in_place": report.in_place,
        "durable": report.durable,
        "digest": dict(report.digests).get(report.applied, b"").hex(),
        "files": report.files,
        "strays": report.strays,
        "mended": report.mended,
        "progress": None if report.progress is None else msgspec.structs.asdict(report.progress),
        "hooks": [msgspec.to_builtins(hook) for hook in report.hooks],
        "problems": problems_as_data(report.problems),
    }
