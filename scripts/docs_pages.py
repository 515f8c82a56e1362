"""Pages of the documentation site that stand elsewhere in the repository: MkDocs calls this (`hooks` in mkdocs.yml).

They are read where they stand, so that nothing is told twice; only their links are made to lead within the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "GUARANTEES.md": "guarantees.md",
    "CHANGELOG.md": "changelog.md",
    "bench/README.md": "bench.md",
}
"""The page of each document, by its path in the repository."""

LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add them to the files of the site."""
    for source, page in PAGES.items():
        text = (PROJECT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=leading_within(text, source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The pages of docs/ may lead to those documents, too."""
    return markdown if page.file.src_uri in PAGES.values() else leading_within(markdown, f"docs/{page.file.src_uri}")


def leading_within(text: str, source: str) -> str:
    """The document `text`, which stands at `source`, with links to other pages as they are within the site."""

    def target(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        return PAGES.get(path) or path.removeprefix("docs/")

    return LINK.sub(target, text)
