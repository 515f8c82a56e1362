#!/usr/bin/env python3
"""Write what is in docs/ about the API and made from its tables: metrics.md, openapi.json. `write_docs.py` makes api.md
of the latter."""

from pathlib import Path

from onefold.api import metrics, openapi
from onefold.api.app import OPERATIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"

(DOCS / "metrics.md").write_text(metrics.documentation(), encoding="utf-8")
(DOCS / "openapi.json").write_bytes(openapi.encode(openapi.document(OPERATIONS)))
