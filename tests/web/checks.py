"""Whether everybody can use what is shown: names of controls, contrast of text, and width."""

from __future__ import annotations

from pathlib import Path

from browser import Browser

CONTROLS = {"button", "checkbox", "image", "img", "link", "progressbar", "radio", "searchbox", "textbox"}
REGIONS = {"dialog", "navigation"}

_CONTRAST = Path(__file__).with_name("contrast.js").read_text()

_WIDE = """
return [...document.querySelectorAll('body *')]
  .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
  .filter((each) => !each.closest('.unseen, .skip, .scroll, .past, pre'))
  .map((each) => `${each.tagName}.${each.className}`)
  .concat(document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : []);
"""


def nameless(page: Browser) -> list[str]:
    """Controls and images without a name, as the browser tells it to a screen reader."""
    page.command("Accessibility.enable")
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    shown = [
        node for node in nodes if not node.get("ignored") and node.get("role", {}).get("value") in CONTROLS | REGIONS
    ]
    assert shown
    return [str(node) for node in shown if not node.get("name", {}).get("value", "").strip()]


def hard_to_read(page: Browser) -> list[str]:
    """Text with a contrast below 4.5 (3 if it is large), as WCAG 2.2 counts it."""
    seen, poor = page.run(_CONTRAST)
    assert seen > 3
    return list(poor)


def too_wide(page: Browser) -> list[str]:
    """What reaches beyond the width of the window."""
    return list(page.run(_WIDE))
