"""What the readers of the fault tests take for a contradiction, and what not."""

from __future__ import annotations

from pathlib import Path

from churn import Ledger, Version
from history import Reader, contradictions


def ledger() -> Ledger:
    found = Ledger()
    found.written = {"a1": "a", "a2": "a", "b2": "b"}
    return found


def reader(node: str, *tokens: str) -> Reader:
    """One that saw versions of one file at one path: the digit of each token is the number of its version."""
    found = Reader(node, Path("/nowhere"))
    found.paths[b"path"] = [Version(1, int(token[1]), token) for token in tokens]
    return found


def test_an_older_version_after_a_newer_one_is_a_contradiction() -> None:
    assert len(contradictions([reader("c", "a1", "b2", "a1")], ledger())) == 1


def test_versions_may_be_skipped_and_those_of_the_reader_undone() -> None:
    assert contradictions([reader("c", "b2"), reader("a", "a1", "a2", "a1", "b2"), reader("b", "a1")], ledger()) == []


def test_two_versions_of_one_number_are_a_contradiction_unless_one_replaced_the_other_unseen() -> None:
    told, raced = ledger(), ledger()
    raced.raced.add((1, 2))
    readers = [reader("c", "a1", "b2"), reader("d", "a1", "a2")]
    assert len(contradictions(readers, told)) == 1
    assert contradictions(readers, raced) == []


def test_a_folder_may_go_back_with_the_power() -> None:
    one = reader("c", "a1", "b2")
    one.lose_power()
    one.paths[b"path"] = [Version(1, 1, "a1")]
    assert contradictions([one], ledger()) == []
