"""docs/problems.md: what Onefold says when something is wrong, from its code; and why, from causes.toml."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from onefold import errors
from pages import MADE
from pages.sentences import GAP, Said, constants, said

CAUSES = Path(__file__).with_name("causes.toml")
REASONS = "onefold/edge/reasons.py"
DISK = "free space on that disk, or check its file system and its permissions"
"""What `onefold.disk.trouble` says, as it finds."""

HEAD = f"""\
# Problems and errors

What Onefold says when something is wrong, why it is, and what to do. `{GAP}` stands for what differs: a name, a path, a
number. `onefold status` tells the problems of all nodes; errors end a command, or a node that cannot start.
"""
KINDS = (
    ("Wrong commands and settings", errors.UserError, "Give another command, name or setting."),
    (
        "On this machine",
        errors.OperatorError,
        "Something on the machine, or that it is part of a cluster, has to be mended.",
    ),
    (
        "With other nodes",
        errors.PeerError,
        "Another node is gone, or refuses. Between nodes such errors are handled by themselves, elsewhere or later; "
        "only a command that cannot go on ends with one.",
    ),
)


def problems() -> list[Said]:
    """What a node may say of itself, or of a path in its folder."""
    disk = [each._replace(fix=DISK) for each in said("trouble")]
    return _telling([*said("Problem", "Problem.of", "Unknown", "DiskTrouble"), *constants(REASONS), *disk])


def named(kind: type[errors.OnefoldError]) -> list[Said]:
    """The errors of one kind that a person may meet; those that a node stands by for are problems."""
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, kind)]
    found = said(*(each.__name__ for each in classes if each is not errors.DiskTrouble))
    if kind is errors.PeerError:  # what nodes say to each other has no fix, and needs none
        found = [each for each in found if each.fix or each.file == "onefold/admin.py"]
    if kind is errors.UserError:
        found += [each._replace(text=f"in {GAP}, `{GAP}` {each.text}") for each in said("wrong")]
    return _telling(found)


def _telling(sentences: Iterable[Said]) -> list[Said]:
    """Those that have words of their own."""
    return [each for each in sentences if re.search(r"[a-z]{4}", each.text)]


def causes() -> dict[str, dict[str, str]]:
    """What is written by hand: by the sentence, its `cause`, and a `cure` where the code names none."""
    return tomllib.loads(CAUSES.read_text(encoding="utf-8"))


def page() -> str:
    known = causes()
    lines = [HEAD, MADE.format("the code and scripts/pages/causes.toml"), "", "## Problems in `onefold status`", ""]
    lines += ["| it says | cause | cure |", "|---|---|---|"]
    lines += sorted(set(_rows(problems(), known)))
    for heading, kind, why in KINDS:
        lines += ["", f"## {heading}", "", f"{why} Exit code {kind.exit_code}.", ""]
        lines += ["| it says | what to do |", "|---|---|"]
        lines += sorted(set(_short_rows(named(kind), known)))
    lines += [
        "",
        "## Faults of ours",
        "",
        f'Exit code {errors.Bug.exit_code}, or "the node broke": report it, with the log.',
    ]
    return "\n".join(lines) + "\n"


def _rows(sentences: Iterable[Said], known: dict[str, dict[str, str]]) -> Iterator[str]:
    for each in sentences:
        by_hand = known.get(each.text, {})
        cause, cure = by_hand.get("cause", ""), by_hand.get("cure") or each.fix
        yield f"| {_cell(each.text)} | {_cell(_sentence(cause))} | {_cell(_sentence(cure))} |"


def _short_rows(sentences: Iterable[Said], known: dict[str, dict[str, str]]) -> Iterator[str]:
    for each in sentences:
        yield f"| {_cell(each.text)} | {_cell(_sentence(known.get(each.text, {}).get('cure') or each.fix))} |"


def _sentence(clause: str) -> str:
    end = "" if clause.endswith(("?", ".")) else "."
    return clause[:1].upper() + clause[1:] + end if clause else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
