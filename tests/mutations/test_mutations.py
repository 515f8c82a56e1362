"""The gate's share of the mutations: that they still fit the code, and that what is said of them can be trusted.

`./scripts/mutation_check.sh` runs them all.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import pytest

from mutations.check import PROJECT, Copy, Verdict, copied
from mutations.table import MUTATIONS, Mutation, is_slow

CHEAP = MUTATIONS[0]
TEST = CHEAP.tests[0]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.guarantee}-{mutation.what}")
def test_what_a_mutation_changes_is_there_once_and_so_are_the_tests_that_catch_it(mutation: Mutation) -> None:
    text = (PROJECT / mutation.file).read_text()
    assert text.count(mutation.before) == 1
    ast.parse(text.replace(mutation.before, mutation.after))
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (PROJECT / file).read_text()


def test_every_guarantee_that_is_tested_has_mutations_and_none_is_there_twice() -> None:
    count = Counter(mutation.guarantee for mutation in MUTATIONS)
    assert count.keys() == {f"G{number}" for number in range(1, 9)} - {"G7"}
    assert min(count.values()) >= 2
    in_clusters = {mutation.guarantee for mutation in MUTATIONS if any(map(is_slow, mutation.tests))}
    assert in_clusters == count.keys() - {"G8"}  # which no cluster is needed for
    assert len({(mutation.file, mutation.before, mutation.after) for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    with copied() as made:
        yield made


def test_a_mutation_that_a_test_notices_is_caught(copy: Copy) -> None:
    outcome = copy.check(CHEAP, TEST)
    assert outcome.verdict is Verdict.CAUGHT
    assert "assert" in outcome.why


def test_one_that_no_test_notices_survives(copy: Copy) -> None:
    assert copy.check(CHEAP._replace(after=f"({CHEAP.before})"), TEST).verdict is Verdict.SURVIVED


def test_one_that_is_no_program_does_not_count(copy: Copy) -> None:
    assert copy.check(CHEAP._replace(after="unheard_of"), TEST).verdict is Verdict.INVALID


def test_one_whose_test_does_not_exist_does_not_count(copy: Copy) -> None:
    assert copy.check(CHEAP, TEST + "_and_more").verdict is Verdict.INVALID
