"""All checks, one after the other, and how they are told."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from onefold.config import Config
from onefold.doctor import files, machine, members
from onefold.doctor.check import Check, Verdict

STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILURE: "bold red"}


def run(config: Config, as_json: bool) -> int:
    """Check everything and print it; 1 if anything fails, else 0."""
    checks = list(checkup(config)) if as_json or not sys.stderr.isatty() else _with_spinner(config)
    if as_json:
        print(json.dumps({"node": config.name, "checks": [check._asdict() for check in checks]}, indent=2))  # noqa: T201
    elif sys.stdout.isatty():
        _table(checks)
    else:
        for check in checks:
            print(f"{check.verdict}  {check.about}  {sentence(check)}")  # noqa: T201
        print(summary(checks))  # noqa: T201
    return int(any(check.verdict is Verdict.FAILURE for check in checks))


def checkup(config: Config) -> Iterator[Check]:
    """First what is here, then what is elsewhere."""
    yield from machine.look(config)
    yield from files.look(config)
    yield from members.look(config)


def sentence(check: Check) -> str:
    return f"{check.what}: {check.fix}" if check.fix else check.what


def summary(checks: Sequence[Check]) -> str:
    count = Counter(check.verdict for check in checks)
    if not count[Verdict.WARNING] and not count[Verdict.FAILURE]:
        return f"all {len(checks)} checks are fine"
    parts = [(count[Verdict.FAILURE], "failure"), (count[Verdict.WARNING], "warning")]
    told = " and ".join(f"{number} {word}{'s' if number > 1 else ''}" for number, word in parts if number)
    return f"{told} in {len(checks)} checks"


def _with_spinner(config: Config) -> list[Check]:
    from rich.console import Console

    with Console(stderr=True).status("looking"):
        return list(checkup(config))


def _table(checks: Sequence[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "about", "found", box=None, header_style="bold", pad_edge=False)
    for check in checks:
        found = Text(check.what, overflow="fold")
        if check.fix:
            found.append(f"\n→ {check.fix}", "cyan")
        table.add_row(Text(check.verdict, STYLES[check.verdict]), Text(check.about), found)
    console = Console()
    console.print(table)
    console.print(summary(checks), highlight=False)
