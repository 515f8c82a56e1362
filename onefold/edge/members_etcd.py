"""The members of etcd itself: listed, added as learners, promoted, removed."""

from __future__ import annotations

from collections.abc import Sequence

from onefold.core.seats import Listed
from onefold.edge import etcd_pb2 as pb
from onefold.edge.etcd_client import MEMBER_ADD, MEMBER_PROMOTE, MEMBER_REMOVE, MEMBERS, EtcdClient
from onefold.edge.grpc_wire import Refusal
from onefold.edge.tls import TlsFiles
from onefold.errors import OperatorError

CHANGE_S = 2.0
"""Patience with one endpoint for a change: the member that leads may have to ask all others."""


class EtcdMembers:
    """Whoever asks here raises `OperatorError` when etcd refuses, or `LogUnavailable`. Asking again is safe."""

    def __init__(self, endpoints: Sequence[str], files: TlsFiles | None) -> None:
        self._client = EtcdClient(endpoints, files, attempt_s=0.5)

    def change(self, endpoints: Sequence[str]) -> None:
        """etcd is at other endpoints now."""
        self._client.change(endpoints)

    async def listed(self) -> list[Listed]:
        answer = await self._client.call(MEMBERS, pb.MemberListRequest())
        return [Listed(member.id, url, member.is_learner) for member in answer.members for url in member.peer_urls[:1]]

    async def add_learner(self, peer_url: str) -> None:
        request = pb.MemberAddRequest(peer_urls=[peer_url], is_learner=True)
        try:
            await self._client.call(MEMBER_ADD, request, CHANGE_S)
        except Refusal as error:
            raise OperatorError(f"etcd does not take {peer_url} as a learner yet ({error.message})") from error

    async def promote(self, id: int) -> None:
        try:
            await self._client.call(MEMBER_PROMOTE, pb.MemberPromoteRequest(id=id), CHANGE_S)
        except Refusal as error:
            raise OperatorError(f"etcd does not let its learner vote yet ({error.message})") from error

    async def remove(self, id: int) -> None:
        try:
            await self._client.call(MEMBER_REMOVE, pb.MemberRemoveRequest(id=id), CHANGE_S)
        except Refusal as error:
            raise OperatorError(f"etcd does not let its member go yet ({error.message})") from error

    async def close(self) -> None:
        await self._client.close()
