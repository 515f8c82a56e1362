"""One cluster of three for all tests of the API that leave it as it is, and clients of it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest
from cluster import Demo, demo


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("api") / "data") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def authority(api: Demo) -> ssl.SSLContext:
    """Whoever knows the cluster's authority, and nothing else."""
    return ssl.create_default_context(cafile=str(api.data / ".onefold" / "authority" / "ca.crt"))


@pytest.fixture(scope="session")
def secret(api: Demo) -> str:
    """The token of the cluster's administrator."""
    return (api.data / ".onefold" / "token").read_text().strip()


@pytest.fixture
def asking(api: Demo, authority: ssl.SSLContext, secret: str) -> Iterator[httpx.Client]:
    """An administrator who asks node2."""
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=f"https://{api.nodes['node2'].api.listen}", verify=authority, headers=headers) as client:
        yield client
