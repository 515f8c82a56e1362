"""Pages of the documentation that are made from the code, each by a module of its own."""

MADE = "<!-- Made by `python scripts/write_docs.py` from {}: change that. -->"
