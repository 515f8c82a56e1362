"""etcd for the tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcds import EtcdCluster


@pytest.fixture(scope="session")
def one_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """A cluster of one, for all tests that do not harm it."""
    cluster = EtcdCluster.start(tmp_path_factory.mktemp("etcd"), 1)
    yield cluster
    cluster.stop()


@pytest.fixture
def three_etcds(tmp_path: Path) -> Iterator[EtcdCluster]:
    """A cluster of three, for one test to do anything to."""
    cluster = EtcdCluster.start(tmp_path, 3)
    yield cluster
    cluster.stop()


@pytest.fixture
def folder() -> str:
    return secrets.token_hex(4)
