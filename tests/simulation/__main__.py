"""The command: runs seeds, and tells which fail."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "core")]

from simulation.command import main  # noqa: E402

sys.exit(main())
