#!/usr/bin/env python3
"""Write the pages in docs/ that are made from the code. With `--check`, name those that are not current, and fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pages import api, cli, problems

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES: dict[str, Callable[[], str]] = {"cli.md": cli.page, "problems.md": problems.page, "api.md": api.page}
"""What makes each page; "" while there is nothing to make it from."""


def main(check: bool) -> int:
    stale = []
    for name, make in PAGES.items():
        file, text = DOCS / name, make()
        if text != (file.read_text(encoding="utf-8") if file.exists() else ""):
            stale.append(name)
            if not check:
                file.write_text(text, encoding="utf-8")
    if check and stale:
        sys.stderr.write(f"not current: {', '.join(stale)}: run scripts/write_docs.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
