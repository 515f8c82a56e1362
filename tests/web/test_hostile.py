"""Names and contents that would be scripts, if the page let them."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest
from browser import Browser, Site

from onefold.core.paths import show

OWNED = "globalThis.owned = true"
NAMES = [
    f"<img src=x onerror='{OWNED}'>".encode(),
    f"<script>{OWNED}<∕script>".encode(),
    f'"><svg onload="{OWNED}">'.encode(),
    f"javascript:{OWNED}".encode(),
    b"%3Cscript%3E",
    b"..%2f..%2fx",
    b"#files",
    b"a?b&c=d",
    b"  ",
    b"\\",
    "‮exe.txt".encode(),
    b"caf\xe9\xff\xc3(",
    "e\u0301 \u200b\ufeff".encode(),
    b"new\nline\ttab\x07",
    b"__proto__",
    b"constructor",
]
CONTENTS = {
    "page.html": f"<!doctype html><script>{OWNED}</script><img src=x onerror='{OWNED}'>",
    "image.svg": f"<svg xmlns='http://www.w3.org/2000/svg' onload='{OWNED}'><script>{OWNED}</script></svg>",
    "pretends.png": f"<svg xmlns='http://www.w3.org/2000/svg' onload='{OWNED}'/>",
    "gif.js": f"GIF89a=1;{OWNED}",
    "xml.xml": f"<?xml version='1.0'?><x:script xmlns:x='http://www.w3.org/1999/xhtml'>{OWNED}</x:script>",
}
PLACE = "hostile"


@pytest.fixture(scope="session")
def written(site: Site) -> str:
    """The directory that holds them all."""
    for name in NAMES:
        site.api.put(f"/v1/files/{PLACE}/{quote_from_bytes(name, safe='')}", content=name).raise_for_status()
    for name, text in CONTENTS.items():
        site.api.put(f"/v1/files/{PLACE}/{name}", content=text.encode()).raise_for_status()
    return PLACE


@pytest.fixture
def here(page: Browser, written: str) -> str:
    """That directory, shown."""
    page.run("location.hash = arguments[0]", f"#files/{written}")
    page.see(".files tbody", "page.html")
    return written


def owned(page: Browser) -> bool:
    """Whether a script from a name or a content ran, or would as soon as it is loaded."""
    ran = "'owned' in globalThis"
    could = "document.querySelector('[onerror], [onload], iframe, object, embed') !== null"
    return bool(page.run(f"return {ran} || {could}"))


def test_every_name_is_shown_as_text_and_opens_its_own_file(page: Browser, site: Site, here: str) -> None:
    told = {each.get_property("textContent") for each in page.all(".files tbody td.what .name")}
    assert {show(name) for name in NAMES} <= told
    for name in NAMES:
        page.run("location.hash = arguments[0]", f"#file/{here}/{quote_from_bytes(name, safe='')}")
        page.until(
            lambda name=name: page.see("dialog.viewer h2").get_property("textContent") == show(name), f"file {name!r}"
        )
        page.see("dialog.viewer .history")
        assert not owned(page)


@pytest.mark.parametrize("name", CONTENTS)
def test_content_is_shown_as_text_or_as_an_image_and_never_runs(
    page: Browser, site: Site, here: str, name: str
) -> None:
    page.run("location.hash = arguments[0]", f"#file/{here}/{name}")
    page.see("dialog.viewer .history")
    look = page.see("dialog.viewer .look")
    page.until(lambda: "owned" in look.text or page.all(".look img"), "content")
    assert all(str(image.get_attribute("src")).startswith("blob:") for image in page.all(".look img"))
    assert not owned(page)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENTS)
def test_content_opened_by_its_own_address_is_not_given_to_who_has_no_token(
    page: Browser, site: Site, here: str, name: str
) -> None:
    page.run("sessionStorage.clear()")
    page.driver.get(f"{site.url}/v1/files/{here}/{name}")
    assert "owned" not in page.driver.page_source
    assert not owned(page)


def test_content_is_never_loaded_as_a_script(page: Browser, site: Site, here: str) -> None:
    failed = page.run_async(
        """
        const script = document.createElement('script');
        const [place] = given;
        try { script.src = place; } catch (error) { return error.name; }
        return new Promise((resolve) => { script.onerror = () => resolve('refused'); document.head.append(script); });
        """,
        f"/v1/files/{here}/gif.js",
    )
    assert failed == "TypeError"  # trusted types: no address of a script is ever made of a text
    assert not owned(page)
    assert page.violations()
    page.run("violations.length = 0")
    page.complaints()


def test_markup_from_text_is_forbidden_on_the_page(page: Browser) -> None:
    for attempt in (
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.insertAdjacentHTML('beforeend', 'x')",
        "document.body.setAttribute('onclick', 'x')",
    ):
        refused = page.run(f"try {{ {attempt}; return '' }} catch (error) {{ return error.name }}")
        assert refused == "TypeError", attempt
    assert page.violations()
    page.run("violations.length = 0")
    page.complaints()


SAMPLES = [
    *NAMES,
    b"a/b\xff/c",
    "\u00ad\u2028\u2029\u3000\U000e0001".encode(),
    b"\xf0\x9f\x98",
    b"\xed\xa0\x80",
    b"\x80\xc3\xa4",
]


def test_the_page_shows_paths_as_the_command_line_does(page: Browser) -> None:
    hrefs = [quote_from_bytes(sample) for sample in SAMPLES]
    told = page.run_async("const { shown } = await import('/static/paths.js'); return given[0].map(shown)", hrefs)
    assert told == [show(sample) for sample in SAMPLES]


def test_events_are_read_whatever_the_parts_that_they_come_in(page: Browser) -> None:
    text = 'id: 7\nevent: change\ndata: {"a":\ndata: 1}\n\n: heartbeat\n\nevent: status\ndata: {}\n\ndata: ü\n\n'
    told = page.run_async(
        """
        const { Parser } = await import('/static/events.js');
        const seen = new Set();
        for (let cut = 0; cut <= given[0].length; cut += 1) {
          const parser = new Parser();
          const events = [...parser.push(given[0].slice(0, cut)), ...parser.push(given[0].slice(cut))];
          seen.add(JSON.stringify([events, parser.lastId]));
        }
        return [...seen].map((each) => JSON.parse(each));
        """,
        text,
    )
    events = [
        {"event": "change", "data": '{"a":\n1}'},
        {"event": "status", "data": "{}"},
        {"event": "message", "data": "ü"},
    ]
    assert told == [[events, "7"]]
