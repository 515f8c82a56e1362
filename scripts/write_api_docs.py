#!/usr/bin/env python3
"""Write what is in docs/ about the API and made from the code: metrics.md."""

from pathlib import Path

from onefold.api import metrics

DOCS = Path(__file__).resolve().parent.parent / "docs"

(DOCS / "metrics.md").write_text(metrics.documentation(), encoding="utf-8")
