"""Reading everything again: the catalogue's rows, the folder's files, the objects; naming what differs, and mending it.

Nothing is named at first sight: what differs is looked at again, until it was seen twice just so, a while apart, and
nothing is on its way there. So an edit in progress is no difference. A corrupted file or object never spreads: it is
not proposed, and whoever fetches content checks it against its digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import structlog

from onefold.core.catalogue import Catalogue
from onefold.core.inspect import Difference, Remedy, inspect
from onefold.core.messages import Finding
from onefold.core.model import NEW, ROOT, Absent, BaseRow, Change, Id, Kind, Observed, Present, Row, Unknown
from onefold.core.paths import ROOT_PATH, RelPath, show
from onefold.core.recount import Recount
from onefold.errors import OperatorError, PeerError
from onefold.node.durable import Keeper
from onefold.node.given import Ports
from onefold.node.place import Placer
from onefold.node.sound import Pace, damage
from onefold.ports import CHANGING, Listing

ENTRY_BYTES = 16 << 10
"""What looking at one file or object costs beside its content, as bytes read: about 25 µs."""
ROW_BYTES = 1 << 10
"""The same of one row of the catalogue."""
PAGE = 64
ROWS = 256
SMALL_BYTES = 1 << 20
SUSPECTS_MAX = 1_000
"""So many are looked at again together."""
LOOKS = 6
LOOK_SECONDS = 1.0

Sight = tuple[Observed, bool]
"""What was seen, and whether it was at rest (`core.inspect`)."""

log = structlog.get_logger()


class Suspect(msgspec.Struct, frozen=True):
    """Something that may not be as it should be; of `id` NEW: something at `path` that the base does not have."""

    id: Id
    path: RelPath


class Facts(msgspec.Struct, frozen=True):
    """A difference, and all that it was found in."""

    difference: Difference
    seen: Observed
    row: BaseRow | None
    committed: Row | None


class Examiner:
    """Reads again and mends; one caller at a time."""

    def __init__(
        self,
        ports: Ports,
        catalogue: Catalogue,
        placer: Placer,
        keeper: Keeper,
        look_at: Callable[[RelPath], None],
        pending: Callable[[RelPath], bool],
        doubts: Callable[[RelPath], bool],
    ) -> None:
        """`look_at(path)`: an edit may have been missed there. `pending(path)`: something there is on its way.
        `doubts(path)`: what was read there last may be older than its stat says."""
        self._ports = ports
        self._catalogue = catalogue
        self._base = ports.base
        self._rows = ports.catalogue
        self._scanner = ports.scanner
        self._objects = ports.objects
        self._placer = placer
        self._keeper = keeper
        self._look_at = look_at
        self._pending = pending
        self._doubts = doubts
        self._recount: Recount | None = None
        self._damaged_objects: dict[bytes, int] = {}  # those that are not mended yet, with their sizes
        self.bytes = 0
        """Of all contents, as of the last count."""

    # -------------------------------------------------------------------------------------------- the catalogue

    def applied(self, changes: Mapping[Id, Change]) -> None:
        """An entry was applied."""
        if self._recount is not None:
            self._recount.change(changes)

    async def catalogue_is_sound(self, pace: Pace) -> bool:
        """Whether the rows add up to the catalogue's digest. A second count confirms that they do not."""
        return await self._count(pace) or await self._count(pace)

    async def _count(self, pace: Pace) -> bool:
        recount = self._recount = Recount()
        try:
            while rows := self._rows.page(recount.after, ROWS):
                recount.count(rows)
                await pace(len(rows) * ROW_BYTES)
            self.bytes = recount.bytes
            return recount.total == self._catalogue.digest
        finally:
            self._recount = None

    # -------------------------------------------------------------------------------------------- the folder

    async def page(self, after: Id, pace: Pace) -> tuple[Id, list[Suspect]]:
        """Read again what comes after id `after` (`NEW`: from the start): up to which id that was (`after`: there is no
        more), and what is suspect."""
        if after == NEW:
            return ROOT, await self._suspects(await self._strangers(ROOT, ROOT_PATH))
        ours, theirs = self._base.page(after, PAGE), self._rows.page(after, PAGE)
        ends = [page[-1].id for page in (ours, theirs) if len(page) == PAGE]
        ids = {row.id for row in ours} | {row.id for row in theirs}
        last = min(ends) if ends else max(ids, default=after)
        places = [Suspect(id, self._path(id)) for id in sorted(ids) if id <= last]
        suspects = [place for place, _ in await self._differing(places, pace)]
        for row in ours:
            if row.kind is Kind.DIRECTORY and row.id <= last and self._base.get(row.id) == row:
                suspects += await self._suspects(await self._strangers(row.id, self._base.path(row.id)))
        return last, suspects

    def _path(self, id: Id) -> RelPath:
        """Where the base has `id`, else where the catalogue wants it."""
        names: list[bytes] = []
        while id != ROOT:
            if self._base.get(id) is not None:
                names.append(self._base.path(id))
                break
            row = self._rows.get(id)
            if row is None:
                break
            names.append(row.name)
            id = row.parent
        return RelPath(b"/".join(reversed(names)))

    async def _strangers(self, id: Id, path: RelPath) -> list[RelPath]:
        """What stands in directory `path`, `id` of the base (NEW: none), and is not in the base."""
        listing = await asyncio.to_thread(self._scanner.listing, path)
        if not isinstance(listing, Listing):
            return []
        known = {row.name for row in self._base.children(id)} if id != NEW else set()
        return [path.child(name) for name in listing.names if name not in known]

    async def _suspects(self, strangers: Sequence[RelPath]) -> list[Suspect]:
        """Those of `strangers` that are not ignored: nothing that is, is read."""
        return [Suspect(NEW, place) for place in await asyncio.to_thread(self._unhidden, strangers)]

    def _unhidden(self, places: Iterable[RelPath]) -> list[RelPath]:
        with self._scanner.session():
            return [place for place in places if not self._scanner.ignored(place, False)]

    async def _differing(self, places: Sequence[Suspect], pace: Pace) -> list[tuple[Suspect, Facts]]:
        """Those of `places` where something differs just now."""
        found: list[tuple[Suspect, Facts]] = []
        small: list[Suspect] = []
        for place in places:
            row = self._base.get(place.id) if place.id != NEW else None
            if row is None and place.id != NEW:
                self._add(found, place, (Absent(), False))
            elif row is not None and row.size > SMALL_BYTES:
                self._add(found, place, await self._read_slowly(place.path, pace))
            else:
                small.append(place)
        sights = await asyncio.to_thread(self._read_all, [place.path for place in small])
        for place, sight in zip(small, sights, strict=True):
            self._add(found, place, sight)
        await pace(sum(ENTRY_BYTES + _size(sight) for sight in sights))
        return found

    def _add(self, found: list[tuple[Suspect, Facts]], place: Suspect, sight: Sight) -> None:
        facts = self._judge(place, sight)
        if facts is not None:
            found.append((place, facts))

    def _judge(self, place: Suspect, sight: Sight) -> Facts | None:
        seen, at_rest = sight
        row = self._base.get(place.id) if place.id != NEW else self._base.lookup(place.path)
        committed = self._rows.get(place.id) if place.id != NEW else None
        if seen is CHANGING or (place.id == NEW and (row is not None or self._is_hidden(place.path, seen))):
            return None
        if row is not None and self._base.path(row.id) != place.path:
            return None  # it moved meanwhile
        difference = inspect(row, committed, seen, at_rest and not self._doubts(place.path))
        return None if difference is None else Facts(difference, seen, row, committed)

    def _is_hidden(self, path: RelPath, seen: Observed) -> bool:
        """Whether what is new at `path` is ignored; or a directory, of which only what is in it counts."""
        directory = isinstance(seen, Present) and seen.kind is Kind.DIRECTORY
        return self._scanner.ignored(path, False) or (directory and self._scanner.ignored(path, True))

    # -------------------------------------------------------------------------------------------- reading

    def _read_all(self, paths: Iterable[RelPath]) -> list[Sight]:
        with self._scanner.session():
            return [self._read(path) for path in paths]

    def _read(self, path: RelPath) -> Sight:
        reading = self._scanner.reread(path)
        if isinstance(reading, Present | Absent | Unknown):
            return reading, False
        try:
            while reading.step():
                pass
            return reading.observed()
        except OSError as error:
            return Unknown(f"it cannot be read: {error.strerror}"), False
        finally:
            reading.close()

    async def _read_slowly(self, path: RelPath, pace: Pace) -> Sight:
        reading = await asyncio.to_thread(self._scanner.reread, path)
        if isinstance(reading, Present | Absent | Unknown):
            return reading, False
        try:
            while read := await asyncio.to_thread(reading.step):
                await pace(read)
            return reading.observed()
        except OSError as error:
            return Unknown(f"it cannot be read: {error.strerror}"), False
        finally:
            reading.close()

    # -------------------------------------------------------------------------------------------- naming, and mending

    async def settle(self, suspects: Sequence[Suspect], repair: bool) -> list[Finding]:
        """Look again at each of `suspects`, and answer what differs in earnest; with `repair`, mend it if that can be
        done from here."""
        before: dict[Suspect, Facts] = {}
        named: dict[Suspect, Facts] = {}
        left = list(suspects)
        for _ in range(LOOKS):
            if not left:
                break
            for place in left:
                self._look_at(place.path)
            await self._ports.clock.sleep(LOOK_SECONDS)
            differing = await self._differing(left, _no_pace)
            left = []
            for place, facts in differing:
                if place.id == NEW and (inside := await self._strangers(NEW, place.path)):
                    left += await self._suspects(inside)  # a directory that only holds what is ignored is none
                elif (
                    facts != before.get(place) or self._pending(place.path) or not self._placer.is_due(facts.committed)
                ):
                    before[place] = facts
                    left.append(place)
                else:
                    named[place] = facts
        mended = await self._mend(named) if repair else set()
        for place, facts in named.items():
            log.error("found", path=show(place.path), what=facts.difference.what, mended=place in mended)
        return [Finding(f.difference.what, show(place.path), place in mended) for place, f in named.items()]

    async def _mend(self, named: Mapping[Suspect, Facts]) -> set[Suspect]:
        """Do for each what its remedy says, if there is one; answers those that are mended."""
        mended: set[Suspect] = set()
        placed: set[Suspect] = set()
        for place, facts in named.items():
            remedy, row = facts.difference.remedy, facts.row
            if remedy is Remedy.REPLACE and row is not None:
                if await self._replace(row):
                    mended.add(place)
            elif remedy is Remedy.RELEARN and row is not None:
                await self._placer.relearn(row)
                placed.add(place)
            elif remedy is Remedy.PLACE:
                self._placer.want([place.id])
                placed.add(place)
        left = placed
        for _ in range(LOOKS):
            if left:
                await self._ports.clock.sleep(LOOK_SECONDS)
                left = {place for place, _ in await self._differing(sorted(left, key=_by_path), _no_pace)}
        return mended | placed - left

    async def _replace(self, row: BaseRow) -> bool:
        try:
            return await self._placer.replace_damaged(row)
        except (PeerError, OperatorError) as error:
            log.warning("no sound copy is to be had", path=show(self._path(row.id)), error=str(error))
            return False
        finally:
            self._keeper.let_go(row.content)

    # -------------------------------------------------------------------------------------------- the objects

    async def objects(self, pace: Pace, repair: bool) -> list[Finding]:
        """Read all objects again. One that is damaged counts as here no more; with `repair`, it is fetched if it is
        needed, else let go."""
        for digest in list(self._objects.digests()):
            await self._object(digest, pace)
        return [await self._damaged(digest, size, repair) for digest, size in list(self._damaged_objects.items())]

    async def _object(self, digest: bytes, pace: Pace) -> None:
        size = await damage(self._objects, digest, pace)
        await pace(ENTRY_BYTES)
        if size is not None:
            self._damaged_objects[digest] = size

    async def _damaged(self, digest: bytes, size: int, repair: bool) -> Finding:
        name = digest.hex()
        mended = self._objects.has(digest) or not self._keeper.needs(digest)
        if repair and not mended:
            known = next(iter(self._base.by_content(digest)), None)
            size = size if known is None else known.size
            try:
                await self._ports.peers.fetch(digest, size, sorted(self._ports.peers.connected()))
                mended = True
            except (PeerError, OperatorError) as error:
                log.warning("no sound copy is to be had", object=name, error=str(error))
        if mended:
            del self._damaged_objects[digest]
            self._keeper.let_go(digest)
        log.error("found", object=name, what="it is damaged", mended=mended)
        return Finding("an object is damaged", name, mended)


def _by_path(place: Suspect) -> RelPath:
    return place.path


async def _no_pace(_: int) -> None: ...


def _size(sight: Sight) -> int:
    return sight[0].stat.size if isinstance(sight[0], Present) else 0
