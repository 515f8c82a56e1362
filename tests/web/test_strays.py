"""What was kept aside, on the page: seen, looked at, restored, dropped."""

from __future__ import annotations

import pytest
from browser import PHONE, Browser, Site
from checks import hard_to_read, nameless, too_wide
from cluster import Demo

TABLE = "table.strays tbody"


@pytest.fixture
def stray(running: Demo, request: pytest.FixtureRequest) -> str:
    """The path of a file that was edited on a node that does not lead."""
    name = f"{request.node.name}.txt"
    (running.folder("node1") / name).write_text("committed\n")
    running.wait()
    (running.folder("node3") / name).write_text("edited on node3\n")
    return name


def test_an_edit_on_a_node_that_does_not_lead_is_seen_and_restored(
    page: Browser, site: Site, running: Demo, stray: str
) -> None:
    page.see("#strays-count")
    page.see("nav [data-view=strays]").click()
    page.press(stray, TABLE)
    assert page.see("dialog pre").text == "edited on node3"
    page.press("Restore", "dialog.viewer")
    page.see("dialog.question", "It becomes the newest version")
    page.answer("Restore")
    page.see(".toast", f"{stray} is restored")
    page.gone(TABLE, stray)
    running.wait()
    assert [(folder / stray).read_text() for folder in running.folders()] == ["edited on node3\n"] * 3


@pytest.mark.slow
def test_it_is_restored_under_another_name(page: Browser, running: Demo, stray: str) -> None:
    page.run("location.hash = '#strays'")
    page.see(TABLE, stray)
    page.press(f"Restore {stray} from node3")
    page.answer("Restore", As="both.txt")
    page.gone(TABLE, stray)
    running.wait()
    assert (running.folder("node2") / stray).read_text() == "committed\n"
    assert (running.folder("node2") / "both.txt").read_text() == "edited on node3\n"


@pytest.mark.slow
def test_it_is_dropped_only_after_a_question(page: Browser, running: Demo, stray: str) -> None:
    page.run("location.hash = '#strays'")
    page.see(TABLE, stray)
    page.press(f"Drop {stray} from node3")
    page.see("dialog.question", "They cannot be brought back.")
    page.press("Cancel", "dialog.question")
    page.gone("dialog")
    page.press(f"Drop {stray} from node3")
    page.answer("Drop")
    page.gone(TABLE, stray)
    assert (running.folder("node1") / stray).read_text() == "committed\n"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_what_is_kept_aside(page: Browser, stray: str, theme: str) -> None:
    page.prefer(prefers_color_scheme=theme)
    page.run("location.hash = '#strays'")
    page.see(TABLE, stray.partition("[")[0])
    for size in (None, PHONE):
        if size:
            page.resize(size)
        assert nameless(page) == []
        assert hard_to_read(page) == []
        assert too_wide(page) == []
