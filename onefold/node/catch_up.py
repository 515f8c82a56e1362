"""The catalogue from a peer, for a node that is behind what the log still holds: new, wiped, or away for too long."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from onefold.core.messages import AskCatalogue, CataloguePage, Problem, Progress, Report
from onefold.core.model import ROOT, Id, Kind
from onefold.core.rows import Last
from onefold.core.wire import row_digest
from onefold.errors import ContentMismatch, LogUnavailable, PeerError
from onefold.ports import CatalogueStore, Clock, Log, Peers

PAGE_SECONDS = 10.0
RETRY_SECONDS = 0.2

log = structlog.get_logger()


class CatchUp:
    """Takes a copy of a peer's catalogue in place of ours, after which this node must start anew.

    Nothing of ours is touched before the copy is complete and its digest is that of its rows. The copy is of an index
    that the log still continues: while it is being taken this node is a live one whose *durable* index holds trimming.
    """

    def __init__(
        self,
        replicated: Log,
        store: CatalogueStore,
        peers: Peers,
        clock: Clock,
        report_of: Callable[[str], Report | None],
    ) -> None:
        """`report_of(node)`: what that peer last said of itself."""
        self._log = replicated
        self._store = store
        self._peers = peers
        self._clock = clock
        self._report_of = report_of
        self._progress: Progress | None = None
        self._problem: Problem | None = None

    def progress(self) -> Progress | None:
        return self._progress

    def problems(self) -> list[Problem]:
        return [self._problem] if self._problem is not None else []

    async def run(self) -> None:
        """Returns once the catalogue is that of a peer; asks one after the other until it has been."""
        self._progress = Progress("catalogue", 0, 0)
        while True:
            try:
                first = await self._log.first()
                for peer in self._sources(first - 1):
                    if await self._took(peer, first - 1):
                        return
            except LogUnavailable as error:
                log.warning("the log does not answer", error=str(error))
            await self._clock.sleep(RETRY_SECONDS)

    def _sources(self, index: int) -> list[str]:
        """The peers that have applied `index`; who leads has other things to do, and comes last."""
        found = []
        for peer in sorted(self._peers.connected()):
            report = self._report_of(peer)
            if report is not None and report.applied >= index:
                found.append((report.role == "leader", peer))
        if not found:
            self._problem = Problem(
                "this node is behind what the log holds, and no peer can give it the catalogue",
                "",
                "start a node that has all of the folder",
            )
        return [peer for _, peer in sorted(found)]

    async def _took(self, peer: str, index: int) -> bool:
        """Whether the catalogue is now that of `peer`, at `index` or later."""
        try:
            await self._take(peer, index)
        except (PeerError, LogUnavailable) as error:
            log.warning("the catalogue could not be had", peer=peer, error=str(error))
            self._problem = Problem(f"the catalogue could not be had from {peer} ({error})", "", "it is tried again")
            return False
        self._problem = None
        return True

    async def _take(self, peer: str, index: int) -> None:
        first = page = await self._page(peer, 0, ROOT)
        log.info("taking the catalogue", peer=peer, index=first.index)
        self._store.begin_copy()
        digest = files = 0
        while True:
            if (page.index, page.digest, page.files) != (first.index, first.digest, first.files) or page.index < index:
                raise ContentMismatch(f"{peer} gave pages of another catalogue than the one that was begun")
            self._store.copy(page.rows)
            digest += sum(map(row_digest, page.rows))
            files += sum(row.kind is not Kind.DIRECTORY for row in page.rows)
            self._progress = Progress("catalogue", files, first.files)
            if page.last:
                break
            page = await self._page(peer, first.index, page.rows[-1].id)
        expected = int.from_bytes(first.digest, "big")
        if digest % (1 << 256) != expected or files != first.files:
            raise ContentMismatch(f"the catalogue that {peer} gave is not what its digest says")
        lasts = [(node, Last(incarnation, sequence, ())) for node, incarnation, sequence in first.lasts]
        self._store.end_copy(first.index, expected, files, first.seeded, lasts)
        log.info("took the catalogue", peer=peer, index=first.index, files=files)

    async def _page(self, peer: str, index: int, after: Id) -> CataloguePage:
        answer = await self._peers.ask(peer, AskCatalogue(index, after), PAGE_SECONDS)
        if not isinstance(answer, CataloguePage) or not (answer.rows or answer.last):
            raise ContentMismatch(f"{peer} gave something else than a page of its catalogue")
        if answer.rows and answer.rows[0].id <= after:
            raise ContentMismatch(f"{peer} gave a page of its catalogue for the second time")
        return answer
