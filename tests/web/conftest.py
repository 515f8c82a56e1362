"""One cluster and one browser for all tests of the page; each test begins signed in, with a page just loaded."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest
from browser import DESKTOP, Browser, Site, browser, missing
from cluster import Demo, demo


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("web") / "data") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def site(running: Demo) -> Iterator[Site]:
    """Of a node that does not lead."""
    url = f"https://{running.nodes['node2'].api.listen}"
    token = (running.data / ".onefold" / "token").read_text().strip()
    authority = ssl.create_default_context(cafile=str(running.data / ".onefold" / "authority" / "ca.crt"))
    with httpx.Client(base_url=url, verify=authority, headers={"Authorization": f"Bearer {token}"}) as client:
        yield Site(url, token, client)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if missing():
        pytest.skip(f"there is no {' and no '.join(missing())}")
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def stranger(chromium: Browser, site: Site) -> Iterator[Browser]:
    """Somebody who has just opened the page. In the end, the policy had nothing to forbid, and no script failed."""
    chromium.resize(DESKTOP)
    chromium.prefer(prefers_color_scheme="light")
    chromium.driver.get(f"{site.url}/static/icon.svg")  # of the same origin, and runs nothing
    chromium.run("localStorage.clear(); sessionStorage.clear()")
    chromium.complaints()
    chromium.driver.get(f"{site.url}/")
    yield chromium
    assert chromium.violations() == []
    assert chromium.complaints() == []


@pytest.fixture
def page(stranger: Browser, site: Site) -> Browser:
    """The overview, signed in."""
    stranger.see("#token").send_keys(f"{site.token}\n")
    stranger.see(".node")
    return stranger
