"""etcd's v3 API over several endpoints: the own member first, the others when it fails.

A call is given to one endpoint after another, each for a short time, until one answers or the time for all is over: an
election lets requests hang, a dead member refuses them. So every call made here must be safe to repeat.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from onefold.edge import etcd_pb2 as pb
from onefold.edge.grpc_wire import Broken, Connection, Refusal, Stream, connect
from onefold.edge.hpack_decode import literal
from onefold.edge.tls import TlsFiles, client_context
from onefold.errors import LogUnavailable, OperatorError

ATTEMPT_S = 0.2
"""How long one endpoint may take to answer before the next is asked: a request caught by an election hangs."""
TOTAL_S = 5.0
"""How long all endpoints together may take. An election takes up to 1 s."""
CONNECT_S = 2.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.05, 0.5
FULL_S = 0.5
"""Between two attempts to write to an etcd without space: each costs its members an entry of Raft."""
SHUNNED_S = 1.0
"""How long an endpoint that did not answer in time is asked only after the others."""

_CANCELLED, _UNKNOWN, _DEADLINE, _DENIED, _EXHAUSTED, _UNAVAILABLE, _UNAUTHENTICATED = 1, 2, 4, 7, 8, 14, 16
_PASSING = frozenset({_CANCELLED, _UNKNOWN, _DEADLINE, _EXHAUSTED, _UNAVAILABLE})
"""What passes by itself, or is another member's to answer: no leader, an election, a restart, too many requests."""

NO_SPACE = "etcd has no space left"

_NEEDS_LEADER = literal(b"hasleader", b"true")
"""A watch with this is ended by a member that lost touch with the majority, instead of falling silent."""


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802


Q = TypeVar("Q", bound=_Message, contravariant=True)
A = TypeVar("A")


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """One of etcd's calls: its path, and the class of its answer."""

    path: str
    answer: type[A]

    def parse(self, data: bytes) -> A:
        return self.answer.FromString(data)  # type: ignore[attr-defined,no-any-return]


RANGE: Method[pb.RangeRequest, pb.RangeResponse] = Method("/etcdserverpb.KV/Range", pb.RangeResponse)
PUT: Method[pb.PutRequest, pb.PutResponse] = Method("/etcdserverpb.KV/Put", pb.PutResponse)
TXN: Method[pb.TxnRequest, pb.TxnResponse] = Method("/etcdserverpb.KV/Txn", pb.TxnResponse)
COMPACT: Method[pb.CompactionRequest, pb.CompactionResponse] = Method("/etcdserverpb.KV/Compact", pb.CompactionResponse)
WATCH: Method[pb.WatchRequest, pb.WatchResponse] = Method("/etcdserverpb.Watch/Watch", pb.WatchResponse)
GRANT: Method[pb.LeaseGrantRequest, pb.LeaseGrantResponse] = Method(
    "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse
)
REVOKE: Method[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse] = Method(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse
)
KEEP_ALIVE: Method[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse] = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse
)
MEMBERS: Method[pb.MemberListRequest, pb.MemberListResponse] = Method(
    "/etcdserverpb.Cluster/MemberList", pb.MemberListResponse
)
MEMBER_ADD: Method[pb.MemberAddRequest, pb.MemberAddResponse] = Method(
    "/etcdserverpb.Cluster/MemberAdd", pb.MemberAddResponse
)
MEMBER_REMOVE: Method[pb.MemberRemoveRequest, pb.MemberRemoveResponse] = Method(
    "/etcdserverpb.Cluster/MemberRemove", pb.MemberRemoveResponse
)
MEMBER_PROMOTE: Method[pb.MemberPromoteRequest, pb.MemberPromoteResponse] = Method(
    "/etcdserverpb.Cluster/MemberPromote", pb.MemberPromoteResponse
)
STATUS: Method[pb.StatusRequest, pb.StatusResponse] = Method("/etcdserverpb.Maintenance/Status", pb.StatusResponse)
ALARM: Method[pb.AlarmRequest, pb.AlarmResponse] = Method("/etcdserverpb.Maintenance/Alarm", pb.AlarmResponse)
DEFRAGMENT: Method[pb.DefragmentRequest, pb.DefragmentResponse] = Method(
    "/etcdserverpb.Maintenance/Defragment", pb.DefragmentResponse
)
MOVE_LEADER: Method[pb.MoveLeaderRequest, pb.MoveLeaderResponse] = Method(
    "/etcdserverpb.Maintenance/MoveLeader", pb.MoveLeaderResponse
)


class Watch:
    """A watch under way. Every way it can end raises `Broken` or `Refusal`: read again, then watch anew."""

    def __init__(self, stream: Stream, endpoint: _Endpoint) -> None:
        self._stream = stream
        self._endpoint = endpoint

    async def receive(self) -> pb.WatchResponse:
        answer = WATCH.parse(await self._stream.receive())
        if answer.canceled or answer.compact_revision:
            raise Broken(f"the watch was cancelled ({answer.cancel_reason or 'compacted'})")
        return answer

    def close(self) -> None:
        self._stream.close()


class _Endpoint:
    """One address of etcd and the connection to it, if there is one."""

    def __init__(self, url: str, context: ssl.SSLContext | None) -> None:
        self.url = url
        self._context = context
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._backoff_s = 0.0
        self._failure = ""
        self.not_before = 0.0
        """When a new connection may be tried (the loop's time)."""
        self.shunned_until = 0.0

    async def connection(self) -> Connection:
        """The connection, made if need be. All callers share one attempt, which outlives the patience of each."""
        if self._connection and self._connection.end is None:
            return self._connection
        if self._connecting is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self.not_before:
                raise Broken(self._failure)
            self._connecting = loop.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    def probe(self) -> None:
        if self._connection:
            self._connection.probe()

    async def close(self) -> None:
        if self._connecting:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection:
            self._connection.close()

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await connect(self.url, self._context)
        except TimeoutError as error:
            raise Broken("it does not answer") from error
        except OSError as error:  # ssl.SSLError is one
            raise Broken(str(error)) from error

    def _connected(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        failure = task.exception()
        if failure is None:
            self._connection = task.result()
            self._backoff_s = 0.0
        else:
            self._failure = str(failure)
            self._backoff_s = min(BACKOFF_MAX_S, max(BACKOFF_FIRST_S, self._backoff_s * 2))
            self.not_before = asyncio.get_running_loop().time() + self._backoff_s


class EtcdClient:
    """Calls and watches on a cluster of etcd. Made and used on one event loop."""

    def __init__(
        self, endpoints: Sequence[str], files: TlsFiles | None, attempt_s: float = ATTEMPT_S, total_s: float = TOTAL_S
    ) -> None:
        """`endpoints` are client URLs, the own member's first. Raises `OperatorError` when `files` cannot be used."""
        context = None
        if files:
            context = client_context(files.ca, files.certificate, files.key)
            # etcd is addressed by its URL: unlike a peer of ours, it has no name that we could ask for.
            context.check_hostname = True
            context.set_alpn_protocols(["h2"])
        self._context = context
        self._closing: set[asyncio.Task[None]] = set()
        self._endpoints = [_Endpoint(url.rstrip("/"), context) for url in endpoints]
        self._attempt_s = attempt_s
        self._total_s = total_s
        self.unanswered: LogUnavailable | None = None
        """How the newest call failed; None when it was answered."""
        self.full = False
        """Whether a write was refused because etcd has no space left. Whoever makes room says when that is over."""

    def change(self, endpoints: Sequence[str]) -> None:
        """Others are to be asked from now on. Connections to those that stay stay."""
        known = {endpoint.url: endpoint for endpoint in self._endpoints}
        wanted = [url.rstrip("/") for url in endpoints]
        self._endpoints = [known.pop(url) if url in known else _Endpoint(url, self._context) for url in wanted]
        for endpoint in known.values():
            task = asyncio.get_running_loop().create_task(endpoint.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    @property
    def own(self) -> str:
        """The endpoint that is asked first."""
        return self._endpoints[0].url

    async def call(self, method: Method[Q, A], request: Q, attempt_s: float | None = None) -> A:
        """Ask, and repeat until answered. `attempt_s` is the patience with each endpoint.

        Raises `LogUnavailable` when none answered in time (the outcome is unknown), `Refusal` for what etcd refuses,
        `OperatorError` for what only a person can mend.
        """
        message = request.SerializeToString()
        loop = asyncio.get_running_loop()
        patience = attempt_s or self._attempt_s
        deadline = loop.time() + max(self._total_s, patience)
        why: Exception = Broken("nobody was asked")
        while loop.time() < deadline:
            for endpoint in self._order():
                try:
                    async with asyncio.timeout(patience):
                        connection = await endpoint.connection()
                        answer = method.parse(await connection.call(method.path, message))
                    self.unanswered = None
                    return answer
                except TimeoutError:
                    why = Broken(f"{endpoint.url} did not answer in {patience:g} s")
                    endpoint.shunned_until = loop.time() + SHUNNED_S
                    endpoint.probe()
                except Broken as error:
                    why = Broken(f"{endpoint.url}: {error}")
                except Refusal as error:
                    _check_passing(error, endpoint.url)
                    why = error
            full = isinstance(why, Refusal) and _is_full(why)
            self.full = self.full or full
            # All refused at once (connections refused, no leader): wait a little, or this loop would spin.
            await asyncio.sleep(FULL_S if full else BACKOFF_FIRST_S)
        if isinstance(why, Refusal) and _is_full(why):
            raise LogUnavailable(NO_SPACE, "see the problems of the voters") from why
        what = f"no majority of etcd answered in {self._total_s:g} s (last: {why})"
        fix = "see that a majority of the voters is running and reachable"
        self.unanswered = LogUnavailable(what, fix)
        raise LogUnavailable(what, fix) from why

    async def ask(self, url: str, method: Method[Q, A], request: Q, patience_s: float | None = None) -> A:
        """Ask the endpoint at `url`, once. Raises `Broken` or `Refusal`."""
        patience = patience_s or self._attempt_s
        for endpoint in self._endpoints:
            if endpoint.url == url.rstrip("/"):
                try:
                    async with asyncio.timeout(patience):
                        connection = await endpoint.connection()
                        return method.parse(await connection.call(method.path, request.SerializeToString()))
                except TimeoutError as error:
                    raise Broken(f"{url} did not answer in {patience:g} s") from error
        raise Broken(f"{url} is no endpoint of ours")

    async def watch(self, request: pb.WatchCreateRequest) -> Watch:
        """Begin a watch at the first endpoint that takes it. Raises `Broken`, after a short pause, when none does."""
        message = pb.WatchRequest(create_request=request).SerializeToString()
        why = Broken("nobody was asked")
        for endpoint in self._order():
            try:
                async with asyncio.timeout(self._attempt_s):
                    connection = await endpoint.connection()
                    stream = connection.stream(WATCH.path, _NEEDS_LEADER)
                    try:
                        stream.send(message)
                        if WATCH.parse(await stream.receive()).created:
                            return Watch(stream, endpoint)
                        why = Broken(f"{endpoint.url} refused the watch")
                    except BaseException:
                        stream.close()
                        raise
                    stream.close()
            except TimeoutError:
                why = Broken(f"{endpoint.url} did not answer in {self._attempt_s:g} s")
                endpoint.shunned_until = asyncio.get_running_loop().time() + SHUNNED_S
                endpoint.probe()
            except Broken as error:
                why = error
            except Refusal as error:
                _check_passing(error, endpoint.url)
                why = Broken(str(error))
        await asyncio.sleep(BACKOFF_FIRST_S)
        raise why

    def misplaced(self, watch: Watch) -> bool:
        """Whether `watch` would begin at another endpoint by now (the own member is back, or this one fell silent)."""
        return self._order()[0] is not watch._endpoint

    async def close(self) -> None:
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints), *self._closing)

    def _order(self) -> list[_Endpoint]:
        """As configured, but for those that fell silent or refuse connections: these come last."""
        now = asyncio.get_running_loop().time()
        return sorted(self._endpoints, key=lambda endpoint: max(endpoint.shunned_until, endpoint.not_before) > now)


def _is_full(error: Refusal) -> bool:
    """Whether it has no space. The write may all the same have been carried out by some members, and so by all."""
    return "database space exceeded" in error.message


def _check_passing(error: Refusal, url: str) -> None:
    """Return if `error` may pass by itself; raise what else to make of it."""
    if error.code in (_DENIED, _UNAUTHENTICATED):
        raise OperatorError(
            f"etcd at {url} does not let us in ({error.message})", "give the certificate's user a role for /onefold/"
        ) from error
    if error.code not in _PASSING:
        raise error
