"""The tutorial does what it says: every shell block of it, on three machines, in its order."""

from __future__ import annotations

from pathlib import Path

import pytest
from tutorial import APART, EVERY, blocks, lab

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
NAMES = ("web1", "web2", "web3")


def test_every_block_of_the_tutorial_says_where_it_is_run() -> None:
    assert {block.title.removesuffix(APART) for block in blocks(TUTORIAL)} <= {EVERY, *NAMES}


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    with lab(tmp_path, *NAMES) as machines:
        try:
            for block in blocks(TUTORIAL):
                machines.run(block)
        except AssertionError as error:
            raise AssertionError(
                "\n".join([str(error), *(f"{name}:\n{log}" for name, log in machines.logs())])
            ) from None
