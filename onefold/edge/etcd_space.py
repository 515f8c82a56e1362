"""Keeps the etcd of a log small: compaction after trims, defragmentation, and the way out of its space alarm.

etcd keeps what was removed until its revisions are compacted, and the pages that this frees until the member is
defragmented, which blocks that member meanwhile. A member whose file reaches the quota raises an alarm, and then every
write to the cluster is refused until somebody disarms it.

Only an etcd of ours is touched. Of one that serves others too, the alarm is shown, and is its operator's.
"""

from __future__ import annotations

import contextlib

import structlog

from onefold.core.messages import Problem
from onefold.edge import etcd_pb2 as pb
from onefold.edge.etcd_client import ALARM, COMPACT, DEFRAGMENT, MEMBERS, NO_SPACE, STATUS, EtcdClient
from onefold.edge.grpc_wire import Broken, Refusal
from onefold.errors import OperatorError

WASTE_BYTES_MIN = 64 << 20
"""A smaller file is not worth a member's standing still."""
COMPACT_S = 30.0
DEFRAGMENT_S = 120.0
"""Patience with one member. It stands still for 1 to 4 s per 100 MiB in use [measured, three members on one busy disk];
what it wastes costs nothing: 100 MiB with 7 in use took 0.2 s. Appends go on by the others (70 ms at worst)."""
_OUT_OF_RANGE = 11

log = structlog.get_logger()


class Space:
    """What one node does for the space of the etcd behind `client`; `ours` and `quota_bytes` as in `EtcdLog`."""

    def __init__(self, client: EtcdClient, ours: bool, quota_bytes: int) -> None:
        self._client = client
        self._ours = ours
        self._quota_bytes = quota_bytes
        self._alarmed = False
        self.stored_bytes = 0
        self._trimmed = self._due = self._compacted = 0

    def change(self, ours: bool) -> None:
        """Whether the member at the first endpoint is this node's to tend."""
        self._ours = ours

    def trimmed(self, revision: int) -> None:
        """We removed entries, at `revision`."""
        self._trimmed = revision

    async def tidy(self, leads: bool) -> None:
        """See `ports.Log`. What fails is tried again at the next call; what etcd lacks is among the problems."""
        with contextlib.suppress(Broken, Refusal, OperatorError):
            if not self._ours:
                self._note(await self._client.call(STATUS, pb.StatusRequest()))
                return
            if leads:
                await self._compact_trimmed()
            status = await self._client.ask(self._client.own, STATUS, pb.StatusRequest())
            self._note(status)
            # The node beside etcd's leader heals for all: there is one even while nobody can take our leadership.
            leads_etcd = status.leader == status.header.member_id
            if self._alarmed and leads_etcd:
                await self._heal(status)
            elif not self._alarmed and not leads_etcd and _is_wasteful(status):
                await self._defragment(self._client.own, status)

    def problems(self) -> list[Problem]:
        """That etcd has no space, if so."""
        if not (self._alarmed or self._client.full):
            return []
        if self._ours:
            fix = "room is being made; if this stays, start the nodes that are down, so that the log can be trimmed"
        else:
            fix = "compact, defragment and disarm it with etcdctl, or give its members a larger --quota-backend-bytes"
        return [Problem(f"{NO_SPACE}: edits wait", "", fix)]

    def _note(self, status: pb.StatusResponse) -> None:
        self._alarmed = any("NOSPACE" in error for error in status.errors)
        self._client.full = self._alarmed
        self.stored_bytes = status.db_size

    async def _compact_trimmed(self) -> None:
        """Compact up to what we had trimmed at the call before: watches that work are not so far behind, and go on."""
        if self._due > self._compacted:
            await self._compact(self._due, physical=False)
            self._compacted = self._due
        self._due = self._trimmed

    async def _compact(self, revision: int, physical: bool) -> None:
        try:
            request = pb.CompactionRequest(revision=revision, physical=physical)
            await self._client.call(COMPACT, request, COMPACT_S if physical else None)
        except Refusal as error:
            if error.code != _OUT_OF_RANGE:  # it was compacted further already
                raise

    async def _heal(self, status: pb.StatusResponse) -> None:
        """Make all the room there is, then let writes in again. A watch that this cancels is repaired by its reader."""
        await self._compact(status.header.revision, physical=True)
        members = (await self._client.call(MEMBERS, pb.MemberListRequest())).members
        sizes = []
        for member in sorted(members, key=lambda member: member.id == status.leader):
            with contextlib.suppress(Broken, Refusal):  # it is down: it raises the alarm again when it is back and full
                url = member.client_urls[0] if member.client_urls else ""
                before = await self._client.ask(url, STATUS, pb.StatusRequest())
                if before.db_size - before.db_size_in_use > self._quota_bytes // 8:
                    await self._defragment(url, before)
                sizes.append((await self._client.ask(url, STATUS, pb.StatusRequest())).db_size)
        if max(sizes, default=self._quota_bytes) >= self._quota_bytes:
            log.warning("etcd is still full", sizes=sizes, quota=self._quota_bytes)
            return
        for alarm in (await self._client.call(ALARM, pb.AlarmRequest())).alarms:
            if alarm.alarm == pb.AlarmMember.NOSPACE:
                await self._client.call(
                    ALARM,
                    pb.AlarmRequest(
                        action=pb.AlarmRequest.DEACTIVATE, member_id=alarm.member_id, alarm=pb.AlarmMember.NOSPACE
                    ),
                )
        self._alarmed = self._client.full = False
        log.info("etcd has space again", sizes=sizes)

    async def _defragment(self, url: str, status: pb.StatusResponse) -> None:
        log.info("defragmenting etcd", url=url, size=status.db_size, used=status.db_size_in_use)
        await self._client.ask(url, DEFRAGMENT, pb.DefragmentRequest(), DEFRAGMENT_S)


def _is_wasteful(status: pb.StatusResponse) -> bool:
    wasted = status.db_size - status.db_size_in_use
    return status.db_size >= WASTE_BYTES_MIN and wasted > status.db_size // 2
