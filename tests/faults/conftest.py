"""Machines for the fault tests; and of a test that failed, what they said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machines, machines


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Machines]:
    """Three nodes, of which `a` leads; `writers = leader`."""
    with machines(tmp_path) as running:
        yield running
