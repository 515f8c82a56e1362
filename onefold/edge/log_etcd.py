"""The log of one folder on etcd: `ports.Log`, as DESIGN.md section 5 has it.

Keys, all under `/onefold/<folder-id>/`:
    leader          who leads (`_Holder`); its mod-revision is the term; attached to a lease that the leader keeps alive
    head            the index of the newest entry, decimal
    log/<16 hex>    the entries

Rules that every method keeps:
- The leader key is only ever written by a transaction that compares its mod-revision: a term is held once.
- An entry is only ever written by a transaction that compares the term and the head: the log is dense, and a deposed
  leader's or repeated append changes nothing, however late it arrives.
- A request may be carried out twice, or long after we gave up on it; each is made so that this is harmless.
- A watch is only a shortcut. What readers yield is decided by density; a silent watch is checked against `head`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec

from onefold.core.messages import Problem
from onefold.edge import etcd_pb2 as pb
from onefold.edge.etcd_client import GRANT, KEEP_ALIVE, MEMBERS, MOVE_LEADER, RANGE, REVOKE, STATUS, TXN, EtcdClient
from onefold.edge.etcd_space import Space
from onefold.edge.grpc_wire import Broken, Refusal
from onefold.edge.tls import TlsFiles
from onefold.errors import Bug, LogTrimmed, LogUnavailable, OperatorError
from onefold.ports import Append, Leader

LEASE_TTL_S = 2
PAGE_ENTRIES = 256
"""Entries per range read: at most 4 MiB."""
TRIM_ENTRIES = 512
"""Entries per step of a trim."""
PAGE_S = 3.0
"""Patience with one endpoint for one page: it may have to cross a slow link."""
IDLE_S = 2.0
"""A watch silent for that long is checked against a linearizable read."""
OLDEST = (3, 4)

_NOT_FOUND = 5


class _Holder(msgspec.Struct, frozen=True):
    """The value of the leader key. `nonce` recognises an own attempt; `handed` says that somebody else wrote it, with
    a lease for the named node to keep alive."""

    node: str
    reason: str
    nonce: str
    handed: bool = False


class Member(msgspec.Struct, frozen=True):
    """One member of the etcd cluster, for people. `client_urls` is empty while it never started."""

    name: str
    client_urls: tuple[str, ...]


class EtcdLog:
    """The log of folder `folder_id` on the etcd at `endpoints` (client URLs, the own member's first).

    `node` is this node's name: leadership that another hands to it is kept alive as soon as `leader` or `leaders` has
    shown it. Methods raise `LogUnavailable` after `total_s` without an answer from a majority; `entries` and `leaders`
    try for ever. Make and use it on one event loop.

    `ours`: this etcd serves nothing but this log, and its members are named as their nodes. Then etcd's own leadership
    follows ours, so that an append needs one round between the members instead of two [measured: 1 ms of 6]; and `tidy`
    compacts and defragments it. `quota_bytes` is the size at which its members raise the space alarm.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        folder_id: str,
        node: str,
        files: TlsFiles | None = None,
        lease_ttl_s: int = LEASE_TTL_S,
        attempt_s: float = 0.2,
        total_s: float = 5.0,
        ours: bool = False,
        quota_bytes: int = 0,
    ) -> None:
        self._client = EtcdClient(endpoints, files, attempt_s, total_s)
        self._space = Space(self._client, ours, quota_bytes)
        self._node = node
        self._ours = ours
        self._ttl_s = lease_ttl_s
        prefix = f"/onefold/{folder_id}/".encode()
        self._leader_key = prefix + b"leader"
        self._head_key = prefix + b"head"
        self._log = prefix + b"log/"
        self._log_end = prefix + b"log0"
        self._attempt: tuple[int, str, int] | None = None
        self._kept: tuple[int, asyncio.Task[None]] | None = None

    def change(self, endpoints: Sequence[str], ours: bool) -> None:
        """etcd is at other endpoints now; both as for the constructor."""
        self._client.change(endpoints)
        self._space.change(ours)
        self._ours = ours

    # ------------------------------------------------------------------------------------ entries

    async def head(self) -> int:
        answer = await self._client.call(RANGE, pb.RangeRequest(key=self._head_key))
        return _number(answer)

    async def append(self, term: int, index: int, entry: bytes) -> Append:
        _held(term)
        key = self._key(index)
        head_is_before = (
            pb.Compare(target=pb.Compare.VALUE, key=self._head_key, value=b"%d" % (index - 1))
            if index > 1
            else pb.Compare(target=pb.Compare.VERSION, key=self._head_key, version=0)
        )
        answer = await self._client.call(
            TXN,
            pb.TxnRequest(
                compare=[self._term_is(term), head_is_before],
                success=[_put(key, entry), _put(self._head_key, b"%d" % index)],
                failure=[_get(self._leader_key), _get(self._head_key), _get(key)],
            ),
        )
        if answer.succeeded:
            return Append(committed=True, term=term, head=index, standing=entry)
        leader, head, standing = (response.response_range for response in answer.responses)
        bytes_there = standing.kvs[0].value if standing.kvs else None
        return Append(
            committed=bytes_there == entry,
            term=leader.kvs[0].mod_revision if leader.kvs else 0,
            head=_number(head),
            standing=bytes_there,
        )

    async def entries(self, first: int) -> AsyncIterator[tuple[int, bytes]]:
        following = first
        while True:
            try:
                page = await self._page(following)
            except LogUnavailable:
                continue  # the call was patient already
            for kv in page.kvs:
                if self._index(kv.key) != following:
                    raise LogTrimmed(following)
                yield following, kv.value
                following += 1
            if page.more:
                continue
            # Whatever ended the watch: read again.
            watched = self._watched(following, page.header.revision + 1)
            with contextlib.suppress(Broken, Refusal, LogUnavailable):
                async with contextlib.aclosing(watched):
                    async for index, entry in watched:
                        yield index, entry
                        following = index + 1

    async def _page(self, following: int) -> pb.RangeResponse:
        """The entries from `following` on, as many as fit; none when the log ends before. Raises `LogTrimmed`."""
        # Read before the page, which then has something to begin with if the log ever came so far and was not trimmed.
        head = await self.head()
        request = pb.RangeRequest(key=self._key(following), range_end=self._log_end, limit=PAGE_ENTRIES)
        page = await self._client.call(RANGE, request, PAGE_S)
        if not page.kvs and following <= head:
            raise LogTrimmed(following)
        return page

    async def _watched(self, following: int, revision: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Entries from `following` on as they are committed; ends, or raises, when only reading again helps."""
        watch = await self._client.watch(
            pb.WatchCreateRequest(
                key=self._log,
                range_end=self._log_end,
                start_revision=revision,
                filters=[pb.WatchCreateRequest.NODELETE],
            )
        )
        try:
            while True:
                try:
                    async with asyncio.timeout(IDLE_S):
                        answer = await watch.receive()
                except TimeoutError:
                    if await self.head() >= following or self._client.misplaced(watch):
                        return
                    continue
                for event in answer.events:
                    index = self._index(event.kv.key)
                    if index > following:
                        return
                    if index == following:
                        yield index, event.kv.value
                        following += 1
        finally:
            watch.close()

    async def first(self) -> int:
        head = await self.head()  # before the entries: what it counts and is not among them is gone
        oldest = await self._client.call(RANGE, pb.RangeRequest(key=self._log, range_end=self._log_end, limit=1))
        return self._index(oldest.kvs[0].key) if oldest.kvs else head + 1

    async def trim(self, term: int, through: int) -> None:
        _held(term)
        head = await self.head()
        if through >= head:
            raise Bug(f"the log ends at {head}: it cannot be trimmed through {through}")
        # From the oldest on, in steps: one that removed all would keep appends waiting, and what is left is dense.
        done = await self.first() - 1
        while done < through:
            done = min(done + TRIM_ENTRIES, through)
            delete = pb.DeleteRangeRequest(key=self._log, range_end=self._key(done + 1))
            answer = await self._client.call(
                TXN,
                pb.TxnRequest(compare=[self._term_is(term)], success=[pb.RequestOp(request_delete_range=delete)]),
            )
            if not answer.succeeded:
                return
            self._space.trimmed(answer.header.revision)

    @property
    def stored_bytes(self) -> int:
        return self._space.stored_bytes

    async def tidy(self, leads: bool) -> None:
        await self._space.tidy(leads)

    # ------------------------------------------------------------------------------------ the leader

    async def leader(self) -> Leader | None:
        answer = await self._client.call(RANGE, pb.RangeRequest(key=self._leader_key))
        return self._seen(answer.kvs[0] if answer.kvs else None)

    async def leaders(self) -> AsyncIterator[Leader | None]:
        shown: list[Leader | None] = []
        while True:
            try:
                answer = await self._client.call(RANGE, pb.RangeRequest(key=self._leader_key))
            except LogUnavailable:
                continue  # the call was patient already
            leader = self._seen(answer.kvs[0] if answer.kvs else None)
            if [leader] != shown:
                shown = [leader]
                yield leader
            watched = self._watched_leaders(leader, answer.header.revision + 1)
            with contextlib.suppress(Broken, Refusal, LogUnavailable):
                async with contextlib.aclosing(watched):
                    async for newest in watched:
                        shown = [newest]
                        yield newest

    async def _watched_leaders(self, shown: Leader | None, revision: int) -> AsyncGenerator[Leader | None, None]:
        """The newest leader after each change; ends, or raises, when only reading again helps."""
        watch = await self._client.watch(pb.WatchCreateRequest(key=self._leader_key, start_revision=revision))
        try:
            while True:
                try:
                    async with asyncio.timeout(IDLE_S):
                        answer = await watch.receive()
                except TimeoutError:
                    if await self.leader() != shown or self._client.misplaced(watch):
                        return
                    continue
                if answer.events:
                    newest = answer.events[-1]
                    shown = self._seen(newest.kv if newest.type == pb.Event.PUT else None)
                    yield shown
        finally:
            watch.close()

    async def take(self, node: str, seen: int, reason: str) -> Leader | None:
        # A repeated call repeats the same attempt: if the first one succeeded after all, its nonce stands in the key.
        if self._attempt is None or self._attempt[0] != seen:
            self._attempt = seen, secrets.token_hex(8), await self._grant()
        _, nonce, lease = self._attempt
        try:
            leader, kv = await self._write(seen, _Holder(node, reason, nonce), lease)
        except Refusal as error:
            if error.code != _NOT_FOUND:
                raise
            # The lease of an earlier attempt expired, and with it whatever that attempt may have written.
            self._attempt = None
            return await self.take(node, seen, reason)
        self._attempt = None
        if kv is None or _holder(kv).nonce != nonce:
            await self._revoke(lease)
        else:
            await self._align(node)
        return leader

    async def hand_over(self, term: int, node: str, reason: str) -> Leader | None:
        """See `ports.Log`. `node` keeps the new term alive from when its log shows it; until then, and if it is dead,
        the term ends by itself after the lease's time."""
        _held(term)
        nonce = secrets.token_hex(8)
        await self._align(node)
        lease = await self._grant()
        leader, kv = await self._write(term, _Holder(node, reason, nonce, handed=True), lease)
        if kv is None or _holder(kv).nonce != nonce:
            await self._revoke(lease)
        self._let_go(term)
        return leader

    async def resign(self, term: int) -> None:
        delete = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=self._leader_key))
        await self._client.call(TXN, pb.TxnRequest(compare=[self._term_is(term)], success=[delete]))
        self._let_go(term)

    async def _align(self, node: str) -> None:
        """Let the member of `node` lead etcd. Done while no append is in flight: one would be dropped, and repeated
        after its deadline. Only a matter of speed, so any failure leaves it as it is."""
        if not self._ours:
            return
        with contextlib.suppress(Broken, Refusal, LogUnavailable):
            status = await self._client.call(STATUS, pb.StatusRequest())
            members = (await self._client.call(MEMBERS, pb.MemberListRequest())).members
            wanted = next((member.id for member in members if member.name == node), status.leader)
            for member in members:
                if member.id == status.leader != wanted:
                    for url in member.client_urls:
                        await self._client.ask(url, MOVE_LEADER, pb.MoveLeaderRequest(target_id=wanted))

    async def _write(self, seen: int, holder: _Holder, lease: int) -> tuple[Leader | None, pb.KeyValue | None]:
        """Put `holder` if the leader key is still as in term `seen`; what then stands there."""
        value = msgspec.json.encode(holder)
        answer = await self._client.call(
            TXN,
            pb.TxnRequest(
                compare=[self._term_is(seen)],
                success=[_put(self._leader_key, value, lease), _get(self._leader_key)],
                failure=[_get(self._leader_key)],
            ),
        )
        kvs = answer.responses[-1].response_range.kvs
        kv = kvs[0] if kvs else None
        return self._seen(kv), kv

    def _seen(self, kv: pb.KeyValue | None) -> Leader | None:
        if kv is None:
            return None
        holder = _holder(kv)
        handed_to_us = holder.handed and holder.node == self._node
        if handed_to_us or (self._attempt and self._attempt[1] == holder.nonce):
            self._keep(kv.mod_revision, kv.lease)
        return Leader(holder.node, kv.mod_revision, holder.reason)

    # ------------------------------------------------------------------------------------ leases

    async def _grant(self) -> int:
        """A lease. If the answer is lost and another is asked for, the first expires unused."""
        return (await self._client.call(GRANT, pb.LeaseGrantRequest(ttl_s=self._ttl_s))).id

    async def _revoke(self, lease: int) -> None:
        with contextlib.suppress(Refusal, LogUnavailable):  # gone already, or it expires by itself
            await self._client.call(REVOKE, pb.LeaseRevokeRequest(id=lease))

    def _keep(self, term: int, lease: int) -> None:
        """Keep `lease` alive for as long as `term` lasts and this handle is open. Terms only grow."""
        if self._kept:
            if self._kept[0] >= term:
                return
            self._kept[1].cancel()
        self._kept = term, asyncio.get_running_loop().create_task(self._keep_alive(lease))

    def _let_go(self, term: int) -> None:
        if self._kept and self._kept[0] == term:
            self._kept[1].cancel()
            self._kept = None

    async def _keep_alive(self, lease: int) -> None:
        """Ends when the lease is gone: the leader key went with it, which `leaders` shows."""
        while True:
            with contextlib.suppress(LogUnavailable):  # tried again at once: the lease may have outlived the election
                answer = await self._client.call(KEEP_ALIVE, pb.LeaseKeepAliveRequest(id=lease))
                if answer.ttl_s <= 0:
                    return
                await asyncio.sleep(self._ttl_s / 4)

    # ------------------------------------------------------------------------------------ for people

    async def compatible(self) -> None:
        """Raises `OperatorError`, with the fix, unless the etcd that answers is 3.4 or newer."""
        answer = await self._client.call(STATUS, pb.StatusRequest())
        major, minor = (int(part) for part in answer.version.split(".")[:2])
        if (major, minor) < OLDEST:
            raise OperatorError(f"etcd answers as version {answer.version}", "upgrade it to 3.4 or newer")

    async def members(self) -> list[Member]:
        """The members of the etcd cluster, by name."""
        answer = await self._client.call(MEMBERS, pb.MemberListRequest())
        return sorted((Member(m.name, tuple(m.client_urls)) for m in answer.members), key=lambda member: member.name)

    def problems(self) -> list[Problem]:
        """See `ports.Log`. An idle log is asked every `IDLE_S`, so this is never old."""
        error = self._client.unanswered
        unanswered = [] if error is None else [Problem(f"edits wait: {error.what}", "", error.fix)]
        return self._space.problems() + unanswered

    async def close(self) -> None:
        """Let go of everything. Leadership that was not resigned ends with its lease."""
        if self._kept:
            task = self._kept[1]
            self._kept = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._client.close()

    # ------------------------------------------------------------------------------------ keys

    def _key(self, index: int) -> bytes:
        return self._log + b"%016x" % index

    def _index(self, key: bytes) -> int:
        return int(key[len(self._log) :], 16)

    def _term_is(self, term: int) -> pb.Compare:
        """For etcd, the mod-revision of a key that does not exist is 0: so `term` 0 compares that nobody leads."""
        return pb.Compare(target=pb.Compare.MOD, key=self._leader_key, mod_revision=term)


def _held(term: int) -> None:
    if term < 1:  # comparing with it would hold while nobody leads
        raise Bug(f"term {term} is nobody's to append in or to hand over")


def _put(key: bytes, value: bytes, lease: int = 0) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def _get(key: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key))


def _number(answer: pb.RangeResponse) -> int:
    return int(answer.kvs[0].value) if answer.kvs else 0


def _holder(kv: pb.KeyValue) -> _Holder:
    return msgspec.json.decode(kv.value, type=_Holder)
