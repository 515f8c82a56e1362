"""The roster in etcd: one key beside the log, replaced by compare-and-set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from onefold.core.roster import Roster, Standing, decode, encode
from onefold.edge import etcd_pb2 as pb
from onefold.edge.etcd_client import RANGE, TXN, EtcdClient
from onefold.edge.grpc_wire import Broken, Refusal
from onefold.edge.tls import TlsFiles
from onefold.errors import LogUnavailable

IDLE_S = 30.0
"""How long a watch may be silent before the key is read: a watch that hangs would hide who was taken out."""


class EtcdRoster:
    """Implements `ports.RosterStore` for folder `folder_id` on the etcd at `endpoints` (client URLs)."""

    def __init__(
        self,
        endpoints: Sequence[str],
        folder_id: str,
        files: TlsFiles | None,
        attempt_s: float = 0.5,
        total_s: float = 5.0,
    ) -> None:
        self._client = EtcdClient(endpoints, files, attempt_s, total_s)
        self._key = f"/onefold/{folder_id}/roster".encode()

    def change(self, endpoints: Sequence[str]) -> None:
        """etcd is at other endpoints now."""
        self._client.change(endpoints)

    async def read(self) -> Standing:
        standing, _ = await self._read()
        return standing

    async def replace(self, roster: Roster, revision: int) -> bool:
        data = encode(roster)
        same = pb.Compare(target=pb.Compare.MOD, key=self._key, mod_revision=revision)
        put = pb.RequestOp(request_put=pb.PutRequest(key=self._key, value=data))
        get = pb.RequestOp(request_range=pb.RangeRequest(key=self._key))
        answer = await self._client.call(TXN, pb.TxnRequest(compare=[same], success=[put], failure=[get]))
        if answer.succeeded:
            return True
        kvs = answer.responses[0].response_range.kvs
        return bool(kvs) and kvs[0].value == data  # a repeated call whose first attempt was answered too late

    async def follow(self) -> AsyncIterator[Standing]:
        known = -1
        while True:
            try:
                standing, revision = await self._read()
            except LogUnavailable:
                continue  # the call was patient already
            if standing.revision != known:
                known = standing.revision
                yield standing
            with contextlib.suppress(Broken, Refusal, LogUnavailable, TimeoutError):
                async with contextlib.aclosing(self._watched(revision + 1)) as changes:
                    async for standing in changes:
                        known = standing.revision
                        yield standing

    async def close(self) -> None:
        await self._client.close()

    async def _read(self) -> tuple[Standing, int]:
        """The roster, and the revision of the whole store at which it was read."""
        answer = await self._client.call(RANGE, pb.RangeRequest(key=self._key))
        if not answer.kvs:
            return Standing(Roster(), 0), answer.header.revision
        return Standing(decode(answer.kvs[0].value), answer.kvs[0].mod_revision), answer.header.revision

    async def _watched(self, revision: int) -> AsyncGenerator[Standing, None]:
        """Each later roster; raises when only reading again helps."""
        watch = await self._client.watch(
            pb.WatchCreateRequest(key=self._key, start_revision=revision, filters=[pb.WatchCreateRequest.NODELETE])
        )
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    answer = await watch.receive()
                if answer.events:
                    kv = answer.events[-1].kv
                    yield Standing(decode(kv.value), kv.mod_revision)
        finally:
            watch.close()
