"""The catalogue's digest counted anew, page by page, while its rows change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onefold.core.model import ROOT, Change, Id, Row
from onefold.core.wire import row_digest

_DIGEST_MASK = (1 << 256) - 1


class Recount:
    """Counts rows in the order of their ids.

    Invariant: `total` is what the rows up to the id `after` add up to as they are now. So a change to one of those is
    added when it is made, and one behind `after` will be counted as it is by then. Call it between two entries only.
    """

    def __init__(self) -> None:
        self.after = ROOT
        self.total = 0
        self.bytes = 0
        """Of the contents of all that was counted, as it was then."""

    def count(self, rows: Iterable[Row]) -> None:
        """The next `rows`, by id."""
        for row in rows:
            self.total = (self.total + row_digest(row)) & _DIGEST_MASK
            self.bytes += row.size
            self.after = row.id

    def change(self, changes: Mapping[Id, Change]) -> None:
        """An entry was applied."""
        for id, change in changes.items():
            if id <= self.after:
                gone = row_digest(change.before) if change.before is not None else 0
                come = row_digest(change.after) if change.after is not None else 0
                self.total = (self.total + come - gone) & _DIGEST_MASK
