"""What the demo shows: on a terminal a live table and the events below it, elsewhere plain lines.

Both print one line that is exactly `READY`. A view is only told facts; it draws what differs from the last ones.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from onefold.core.messages import STANDBY, HookState, Problem, Progress, Recent, Report
from onefold.core.paths import show

if TYPE_CHECKING:
    from rich.table import Table

READY = "READY"
EVENTS_SHOWN = 6
CHANGES_SHOWN = 12
TOLD_MAX = 1024
BAR_CELLS = 20


class Seen(NamedTuple):
    """One node at one look: whether its supervisor runs (else `down` says why not), its answer, if it gave one, and
    whether it ever did since its start."""

    name: str
    running: bool
    down: str | None
    report: Report | None
    was_up: bool = False

    @property
    def role(self) -> str:
        if self.report is not None:
            return self.report.role
        if self.running:
            return "silent" if self.was_up else "starting"
        return "down"


class View(Protocol, AbstractContextManager["View"]):
    poll_seconds: float
    """How often to look at the nodes once they are ready."""

    def say(self, line: str) -> None:
        """Show one event."""
        ...

    def show(self, nodes: Sequence[Seen], recent: Sequence[Recent]) -> None:
        """Show how the nodes are, and the newest entries of the log, oldest first."""
        ...

    def ready(self, page: str) -> None:
        """All nodes are up. `page`: where the web page is."""
        ...


def new_view(data: Path) -> View:
    """The view that suits where our output goes."""
    return TableView(data) if sys.stdout.isatty() else PlainView()


class Events:
    """Turns one look after another into sentences about what changed between them."""

    def __init__(self) -> None:
        self._roles: dict[str, str] = {}
        self._leader = ("", 0)
        self._problems: dict[str, frozenset[str]] = {}
        self._behind: frozenset[str] = frozenset()
        self._told: frozenset[int] = frozenset()

    def of(self, nodes: Sequence[Seen]) -> list[str]:
        """What is new since the last call."""
        lines: list[str] = []
        for node in nodes:
            if node.role != self._roles.get(node.name):
                self._roles[node.name] = node.role
                lines.append(_state(node))
        known = max((n.report for n in nodes if n.report), key=lambda report: report.term, default=None)
        if known is not None and known.leader and (known.leader, known.term) != self._leader:
            self._leader = (known.leader, known.term)
            lines.append(f"{known.leader} leads (term {known.term})")
        behind = {node.name: node.report.progress for node in nodes if node.report and node.report.progress}
        lines += [f"{name} is {progress(behind[name])}" for name in sorted(behind.keys() - self._behind)]
        up = {node.name for node in nodes if node.report}
        lines += [f"{name} has caught up" for name in sorted((self._behind - behind.keys()) & up)]
        self._behind = frozenset(behind)
        for node in nodes:
            now = frozenset(problems(node.report)) if node.report else frozenset[str]()
            lines += [f"{node.name}: {what}" for what in sorted(now - self._problems.get(node.name, frozenset()))]
            self._problems[node.name] = now
        return lines

    def arrived(self, recent: Sequence[Recent]) -> list[str]:
        """The entries that have come to be everywhere since the last call. One may do so after a later one."""
        done = [entry for entry in recent if entry.everywhere_ms is not None]
        lines = [change(entry) for entry in done if entry.index not in self._told]
        # Kept for longer than `recent` reaches: another leader brings its own, and may repeat some.
        self._told = frozenset(sorted(self._told.union(entry.index for entry in done))[-TOLD_MAX:])
        return lines


class PlainView:
    """Lines, for a log or a pipe."""

    poll_seconds = 2.0

    def __init__(self) -> None:
        self._events = Events()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, line: str) -> None:
        print(line, flush=True)  # noqa: T201

    def show(self, nodes: Sequence[Seen], recent: Sequence[Recent]) -> None:
        for line in (*self._events.of(nodes), *self._events.arrived(recent)):
            self.say(line)

    def ready(self, page: str) -> None:
        self.say(page)
        self.say(READY)


class TableView:
    """A table that is redrawn when something in it changed, with the newest events below."""

    poll_seconds = 0.2

    def __init__(self, data: Path) -> None:
        from rich.console import Console
        from rich.live import Live

        self._data = data
        self._console = Console()
        # Not refreshed by a thread of Rich's own: the demo forks, and must have one thread.
        self._live = Live(console=self._console, auto_refresh=False)
        self._events = Events()
        self._lines: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._nodes: Sequence[Seen] = ()
        self._recent: Sequence[Recent] = ()
        self._drawn: object = None

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def say(self, line: str) -> None:
        self._lines.append(f"{time.strftime('%H:%M:%S')}  {line}")
        self._draw()

    def show(self, nodes: Sequence[Seen], recent: Sequence[Recent]) -> None:
        self._nodes = nodes
        if recent:  # else nobody leads just now: what was, stays
            self._recent = recent[-CHANGES_SHOWN:]
        for line in self._events.of(nodes):
            self.say(line)
        self._draw()

    def ready(self, page: str) -> None:
        self._console.print(READY)
        self._console.print(page, markup=False, highlight=False, soft_wrap=True)
        self.say(f"try it: echo hi > {self._data / 'node1' / 'hello.txt'}; cat {self._data}/node*/hello.txt")

    def _draw(self) -> None:
        facts = (
            rows(self._nodes, self._recent[-1] if self._recent else None),
            (*self._lines, "", *(change(entry) for entry in reversed(self._recent))),
        )
        if facts == self._drawn:
            return
        from rich.console import Group
        from rich.text import Text

        self._drawn = facts
        self._live.update(Group(table(facts[0]), *(Text(line) for line in facts[1])), refresh=True)


HEADINGS = ("node", "role", "index", "in place", "digest", "files", "strays", "problems", "last change")
VERBS = {"seed": "the first leader's folder is in the log"}
STYLES = {"leader": "bold green", "down": "red", "silent": "red", STANDBY: "red", "starting": "yellow"}
NUMBERS = frozenset({"index", "in place", "files", "strays", "problems"})


def table(rows: Sequence[Sequence[str]]) -> Table:
    """The nodes as a table; each row as `rows` makes it."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title="Onefold", title_justify="left")
    for heading in HEADINGS:
        drawn.add_column(heading, justify="right" if heading in NUMBERS else "left", no_wrap=True)
    for row in rows:
        style = STYLES.get(row[1], "")
        drawn.add_row(*(Text(cell) for cell in row), style=style)
    return drawn


def rows(nodes: Sequence[Seen], last: Recent | None = None) -> list[tuple[str, ...]]:
    """The cells under `HEADINGS`, one row per node; the last change stands with the node that led it."""
    return [_cells(node, last) for node in nodes]


def change(entry: Recent) -> str:
    """What one entry did, and how long it took to be everywhere."""
    more = f" and {entry.commands - 1} more" if entry.commands > 1 else ""
    took = "…" if entry.everywhere_ms is None else f"everywhere in {entry.everywhere_ms:.1f} ms"
    what = f"{entry.verb} {printable(entry.path)}" if entry.path else VERBS.get(entry.verb, entry.verb)
    return f"{entry.index}: {what}{more}, {took}"


def printable(text: str) -> str:
    """`text` without what would steer a terminal."""
    return show(text.encode("utf-8", "surrogateescape"))


def _cells(node: Seen, last: Recent | None) -> tuple[str, ...]:
    report = node.report
    if report is None or report.role == STANDBY:
        found = str(len(report.problems)) if report is not None else ""
        return (node.name, node.role, *("" for _ in HEADINGS[2:-2]), found, "")
    return (
        node.name,
        node.role,
        str(report.applied),
        str(report.in_place),
        dict(report.digests).get(report.applied, b"").hex()[:12],
        str(report.files),
        str(report.strays),
        str(len(report.problems)),
        progress(report.progress) if report.progress is not None else _last_change(report, last),
    )


def _last_change(report: Report, last: Recent | None) -> str:
    return change(last) if last is not None and report.role == "leader" else ""


def progress(of: Progress) -> str:
    """How far a node has come that catches up, as a bar and in numbers."""
    full = of.done * BAR_CELLS // max(of.total, 1)
    numbers = f"{of.done:,} of {of.total:,} files" if of.what == "files" else f"{of.what}, {of.done:,} of {of.total:,}"
    return f"catching up {'█' * full}{'░' * (BAR_CELLS - full)} {numbers}"


def hook_line(hook: HookState) -> str:
    """How a hook is, and how it ran last."""
    now = "is running" if hook.running else "waits for its changes to rest" if hook.waiting else ""
    ran = ""
    if hook.last is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(hook.last.began))
        how = hook.last.failure or "done"
        ran = f"ran at {when} for {hook.last.seconds:.1f} s, {how}"
    return f"the hook {hook.name} {'; '.join(part for part in (now, ran) if part) or 'has not run yet'}"


def _state(node: Seen) -> str:
    if node.report is not None:
        return f"{node.name} is up as {node.report.role}"
    if node.running:
        return f"{node.name} does not answer" if node.was_up else f"{node.name} is starting"
    return f"{node.name} is down ({node.down or 'not started'})"


def problems(report: Report) -> list[str]:
    """A node's problems, a sentence each."""
    return [sentence(problem) for problem in report.problems]


def sentence(problem: Problem) -> str:
    where = f" ({printable(problem.where)})" if problem.where else ""
    return f"{printable(problem.what)}{where}{f': {problem.fix}' if problem.fix else ''}"
