"""One-line changes that break a guarantee, and the test that fails then. `table.py` has them; see there."""
