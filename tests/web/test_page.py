"""The page as everybody meets it: signing in, the cluster at a glance, themes, keys, and who can use it."""

from __future__ import annotations

import shutil
import subprocess
from importlib.resources import files

import httpx
import pytest
from browser import PHONE, Browser, Site
from checks import hard_to_read, nameless, too_wide
from cluster import Demo
from selenium.webdriver.common.keys import Keys

SCRIPTS = sorted(file.name for file in files("onefold.web").iterdir() if file.name.endswith(".js"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound_javascript(script: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    kind = ["--input-type=module"] if script != "theme.js" else []
    source = files("onefold.web").joinpath(script).read_bytes()
    subprocess.run([node, "--check", *kind, "-"], input=source, check=True)


def test_the_page_needs_no_token_and_forbids_what_it_does_not_need(site: Site) -> None:
    for path in ("/", "/static/app.js", "/static/style.css", "/static/icon.svg"):
        answer = httpx.get(f"{site.url}{path}", verify=False)
        assert answer.status_code == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        again = httpx.get(f"{site.url}{path}", verify=False, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/nothing.js", "/static/__init__.py", "/static/..%2f..%2fconfig.py", "/static/"]
)
def test_nothing_but_the_page_is_served_without_a_token(site: Site, path: str) -> None:
    assert httpx.get(f"{site.url}{path}", verify=False).status_code == 404


def test_a_wrong_token_is_refused_with_the_fix(stranger: Browser, site: Site) -> None:
    stranger.see("#token").send_keys("wrong\n")
    assert "onefold token add" in stranger.see("#sign-in-error", "The token is not known").text
    stranger.see("#token").clear()
    stranger.see("#token").send_keys(f"{site.token}\n")
    stranger.see("h1", "All 3 nodes are identical.")


def test_the_token_stays_in_this_tab_until_one_signs_out(page: Browser, site: Site) -> None:
    kept = page.run(
        "return [JSON.stringify(localStorage), document.cookie, location.href, Object.values(sessionStorage)]"
    )
    assert site.token not in "".join(kept[:3])
    assert kept[3] == [site.token]
    page.driver.refresh()
    page.see(".node")
    page.press("Sign out")
    page.see("#token")
    assert page.run("return Object.values(sessionStorage)") == []


def test_the_glance_names_the_leader_and_every_node(page: Browser) -> None:
    assert "node1 leads" in page.see(".facts").text
    assert [each.text.split() for each in page.all(".node h3")] == [["node1"], ["node2"], ["node3"]]
    assert "shows this page" in page.all(".node")[1].text.lower()


def test_the_leader_is_moved_by_a_button_that_asks_first(page: Browser) -> None:
    for name in ("node3", "node1"):
        page.see(".node", name).find_element("css selector", "button").click()
        page.see("dialog", f"Make {name} the leader?")
        page.answer("Make leader")
        page.see(".toast", f"{name} leads now.")
        page.see(".facts", f"{name} leads")


@pytest.mark.slow
def test_a_node_that_is_away_is_told_in_plain_words(page: Browser, running: Demo) -> None:
    running.stop_node("node3")
    try:
        page.see("h1", "node3 is away; the others go on.")
        page.see(".node", "Does not answer.")
    finally:
        running.start_node("node3")
    page.see("h1", "All 3 nodes are identical.")


@pytest.mark.slow
def test_light_and_dark_follow_the_system_and_the_switch(page: Browser) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.prefer(prefers_color_scheme="dark")
    dark = page.run(paper)
    assert light != dark
    page.press("Switch to light")
    assert page.run(paper) == light
    page.driver.refresh()
    page.see(".node")
    assert page.run(paper) == light
    page.press("Switch to dark")
    assert page.run(paper) == dark


def test_nothing_moves_for_those_who_ask_for_that(page: Browser) -> None:
    moving = "document.getElementById('help-button').click(); return document.getAnimations().length"
    assert page.run(moving) > 0
    page.keys(Keys.ESCAPE)
    page.prefer(prefers_reduced_motion="reduce")
    assert page.run(moving) == 0


def test_views_are_reached_by_single_keys_unless_these_are_switched_off(page: Browser) -> None:
    page.keys("4")
    page.see("h1", "Kept aside")
    page.keys("1")
    page.see(".nodes")
    page.keys("?")
    page.see("dialog", "Keyboard")
    page.see("#shortcuts-on").click()
    page.keys(Keys.ESCAPE)
    page.gone("dialog")
    page.keys("4")
    assert page.driver.current_url.endswith("/") or page.driver.current_url.endswith("#overview")


def test_signing_in_and_out_needs_no_mouse(stranger: Browser, site: Site) -> None:
    stranger.until(lambda: stranger.focused() == "Access token", "focus")
    stranger.keys(site.token, Keys.ENTER)
    stranger.see(".node")
    stranger.keys(Keys.TAB)
    names = []
    while "Sign out" not in names:
        names.append(stranger.focused())
        assert len(names) < 20, names
        stranger.keys(Keys.SHIFT, Keys.TAB)
    stranger.button("Sign out").send_keys(Keys.ENTER)
    stranger.see("#token")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_sign_in_and_read_the_overview(stranger: Browser, site: Site, theme: str) -> None:
    stranger.prefer(prefers_color_scheme=theme)
    stranger.see("#token")
    assert nameless(stranger) == []
    assert hard_to_read(stranger) == []
    stranger.see("#token").send_keys(f"{site.token}\n")
    stranger.see(".node")
    assert nameless(stranger) == []
    assert hard_to_read(stranger) == []
    stranger.press("Keyboard shortcuts")
    stranger.see("dialog")
    assert nameless(stranger) == []
    assert hard_to_read(stranger) == []


def test_a_phone_shows_it_without_scrolling_sideways(stranger: Browser, site: Site) -> None:
    stranger.resize(PHONE)
    stranger.see("#token")
    assert too_wide(stranger) == []
    stranger.see("#token").send_keys(f"{site.token}\n")
    stranger.see(".node")
    assert too_wide(stranger) == []
    stranger.press("Keyboard shortcuts")
    stranger.see("dialog")
    assert too_wide(stranger) == []
