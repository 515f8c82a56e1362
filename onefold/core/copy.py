"""A catalogue as it was at one index, page by page, while entries go on being applied to it.

Rows are taken by id. What an entry changes beyond the last page is remembered as it was before: so every page is of the
same index, and only what changed meanwhile takes memory. Ids made later are beyond `index`, and left out.
"""

from __future__ import annotations

from onefold.core.catalogue import Catalogue
from onefold.core.messages import CataloguePage
from onefold.core.model import ROOT, Applied, Id, Row, version
from onefold.core.wire import DIGEST_BYTES

REMEMBERED_MAX = 200_000
"""Changed rows that are remembered, at most: about 60 MiB. Whoever takes pages slower than that begins anew."""


class Copy:
    """One copy being taken. `overtaken`: too much has changed since it was begun."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._rows = catalogue.rows
        self.index = catalogue.index
        self.overtaken = False
        self._digest = catalogue.digest.to_bytes(DIGEST_BYTES, "big")
        self._files = catalogue.files
        self._seeded = catalogue.seeded
        self._lasts = tuple((node, last.incarnation, last.sequence) for node, last in catalogue.rows.lasts())
        self._end = Id(version(catalogue.index + 1, 0))
        self._after = ROOT
        self._before: dict[Id, Row] = {}
        self._told: tuple[Id, CataloguePage] | None = None

    def applied(self, applied: Applied) -> None:
        """An entry was applied to the catalogue."""
        for id, change in applied.changes.items():
            if self._after < id < self._end and change.before is not None:
                self._before.setdefault(id, change.before)
        self.overtaken = len(self._before) > REMEMBERED_MAX

    def page(self, after: Id, limit: int) -> CataloguePage | None:
        """The rows beyond `after`, about `limit` of them. None when that is neither the next page nor the last one."""
        if self._told is not None and self._told[0] == after:
            return self._told[1]
        if after != self._after:
            return None
        rows = self._rows.page(after, limit)
        last = len(rows) < limit or rows[-1].id >= self._end
        until = self._end if last else rows[-1].id
        as_it_was = {row.id: row for row in rows if row.id < self._end}
        for id in [id for id in self._before if id <= until]:
            as_it_was[id] = self._before.pop(id)
        page = CataloguePage(
            self.index,
            tuple(as_it_was[id] for id in sorted(as_it_was)),
            last,
            self._digest,
            self._files,
            self._seeded,
            self._lasts if after == ROOT else (),
        )
        self._told = after, page
        self._after = max(as_it_was, default=after) if last else until
        return page
