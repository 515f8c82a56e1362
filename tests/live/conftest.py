"""Clusters for the live tests; and of a test that failed, what its nodes said."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from cluster import Demo, add_logs, demo


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Three nodes for all tests of a module that leave them as they are."""
    with demo(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """As `shared`, with writers = any."""
    with demo(tmp_path_factory.mktemp("writing") / "data", "--writers", "any") as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Demo]:
    """Three nodes for one test to do anything to."""
    with demo(tmp_path / "data") as running:
        yield running


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """The name of a directory that no other test uses."""
    return re.sub(r"\W+", "-", request.node.name).strip("-")


@pytest.fixture
def here(shared: Demo, place: str) -> Path:
    """An empty directory on the leader of `shared`, which is on all nodes."""
    directory = shared.folder("node1") / place
    directory.mkdir()
    shared.settled("node1", place)
    return directory


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return add_logs((yield), item)
