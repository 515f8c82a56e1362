#!/usr/bin/env python3
"""Write docs/settings.md from the settings table."""

from pathlib import Path

from onefold.settings import documentation

(Path(__file__).resolve().parent.parent / "docs" / "settings.md").write_text(documentation(), encoding="utf-8")
