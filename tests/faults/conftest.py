"""Machines for the fault tests; and of a test that failed, what they said."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from cluster import add_logs
from machines import Machines, machines


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Machines]:
    """Three nodes, of which `a` leads; `writers = leader`."""
    with machines(tmp_path) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return add_logs((yield), item)
