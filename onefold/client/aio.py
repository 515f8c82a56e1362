"""`AsyncClient`: the API for programs of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from onefold.api import answers
from onefold.client import calls, transport
from onefold.client.attempts import Failure, Nodes, Reply, attempts
from onefold.client.body import Body
from onefold.client.calls import Call, Content, FolderPath
from onefold.client.download import AsyncArriving, Part
from onefold.client.errors import ClientError, Unreachable
from onefold.client.events import SILENT_SECONDS, Event, Stream

T = TypeVar("T")
PAGE = 1000
PATIENCE_SECONDS = 60.0


class AsyncClient:
    """As `Client`, which says what each method does, for one event loop; what comes in pieces is an async iterator."""

    def __init__(
        self,
        addresses: str | Iterable[str],
        token: str,
        ca: transport.Authority = None,
        seconds: float = transport.SECONDS,
    ) -> None:
        """See `Client`."""
        self._nodes = Nodes(addresses)
        self._http = httpx.AsyncClient(**transport.settings(token, ca, seconds)._asdict())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # -------------------------------------------------------------------------------------------- the cluster

    async def status(self) -> answers.Status:
        return await self._do(calls.status())

    async def members(self) -> tuple[answers.MemberTold, ...]:
        return (await self._do(calls.members())).members

    async def move_leader(self, node: str) -> answers.Leads:
        return await self._do(calls.move_leader(node))

    async def confirm(self, node: str | None = None) -> answers.ConfirmedTold:
        return await self._do(calls.confirm(node))

    async def metrics(self) -> str:
        return (await self._do(calls.metrics())).decode()

    # -------------------------------------------------------------------------------------------- reading

    async def list(self, path: FolderPath = "", linearizable: bool = False) -> AsyncIterator[answers.ListEntry]:
        after: str | None = None
        while True:
            page = await self._do(calls.listing(path, after, PAGE, linearizable and after is None))
            for entry in page.entries:
                yield entry
            after = page.next
            if after is None:
                return

    async def read(self, path: FolderPath, linearizable: bool = False) -> bytes:
        async with self.open(path, linearizable=linearizable) as arriving:
            return b"".join([part async for part in arriving])

    @contextlib.asynccontextmanager
    async def open(
        self,
        path: FolderPath,
        first: int = 0,
        last: int | None = None,
        if_range: str | None = None,
        linearizable: bool = False,
    ) -> AsyncIterator[AsyncArriving]:
        async with self._answered(calls.content(path, first, last, if_range, linearizable)) as response:
            yield AsyncArriving(Part(calls.facts(response.headers), response.status_code), _parts(response))

    async def download(self, path: FolderPath, to: str | os.PathLike[str], linearizable: bool = False) -> calls.Facts:
        partial = f"{os.fspath(to)}.{secrets.token_hex(4)}.partial"
        try:
            with await asyncio.to_thread(open, partial, "wb") as file:
                async with self.open(path, linearizable=linearizable) as arriving:
                    async for part in arriving:
                        await asyncio.to_thread(file.write, part)
            os.replace(partial, to)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        return arriving.facts

    async def history(self, path: FolderPath | None = None, limit: int | None = None) -> tuple[answers.PastChange, ...]:
        return (await self._do(calls.history(path, limit))).changes

    # -------------------------------------------------------------------------------------------- writing

    async def write(
        self,
        path: FolderPath,
        content: Content,
        if_match: str | None = None,
        if_absent: bool = False,
        mode: int | None = None,
        mtime_ns: int | None = None,
    ) -> answers.Written:
        return await self._do(calls.write(path, content, if_match, if_absent, mode, mtime_ns))

    async def make_directory(self, path: FolderPath) -> answers.Written:
        return await self._do(calls.make_directory(path))

    async def remove(self, path: FolderPath, recursive: bool = False, if_match: str | None = None) -> int:
        return (await self._do(calls.remove(path, recursive, if_match))).index

    async def move(self, source: FolderPath, to: FolderPath, if_match: str | None = None) -> answers.MovedTo:
        return await self._do(calls.move(source, to, if_match))

    # -------------------------------------------------------------------------------------------- strays

    async def strays(self) -> answers.StraysTold:
        return await self._do(calls.strays())

    async def read_stray(self, node: str, id: str) -> bytes:
        return await self._do(calls.stray(node, id))

    async def restore_stray(self, node: str, id: str, to: FolderPath | None = None) -> answers.Written:
        return await self._do(calls.restore_stray(node, id, to))

    async def drop_stray(self, node: str, id: str) -> None:
        await self._do(calls.drop_stray(node, id))

    # -------------------------------------------------------------------------------------------- events

    async def events(self, since: int | None = None, patience: float = PATIENCE_SECONDS) -> AsyncIterator[Event]:
        stream = Stream(since, patience)
        while True:
            ended: ClientError | None = None
            try:
                async with self._answered(stream.call(), SILENT_SECONDS) as response:
                    async for part in _parts(response):
                        for event in stream.feed(part):
                            yield event
            except ClientError as error:
                ended = error
            await asyncio.sleep(stream.pause(ended))

    # -------------------------------------------------------------------------------------------- asking

    async def _do(self, call: Call[T]) -> T:
        async with self._answered(call) as response:
            return calls.decode(call, b"".join([part async for part in _parts(response)]))

    @contextlib.asynccontextmanager
    async def _answered(self, call: Call[Any], seconds: float | None = None) -> AsyncIterator[httpx.Response]:
        async with contextlib.AsyncExitStack() as opened:
            body = opened.enter_context(Body(call.content)) if call.content is not None else None
            response = await self._ask(call, body, seconds)
            opened.push_async_callback(response.aclose)
            yield response

    async def _ask(self, call: Call[Any], body: Body | None, seconds: float | None) -> httpx.Response:
        course = attempts(self._nodes, call)
        url = next(course)
        while True:
            given = transport.arguments(url, call, body, seconds)
            if body is not None:
                given["content"] = body.aparts()
            response: httpx.Response | None = None
            came: Reply | Failure
            try:
                response = await self._http.send(self._http.build_request(**given), stream=True)
                if response.is_error:
                    await response.aread()
                came = transport.reply(response)
            except httpx.TransportError as error:
                came = transport.failure(error, body)
            try:
                url = course.send(came)
            except StopIteration:
                assert response is not None
                return response
            finally:
                if response is not None and response.is_error:
                    await response.aclose()


async def _parts(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in response.aiter_raw():
            yield part
    except httpx.TransportError as error:
        raise Unreachable(f"the answer broke off: {transport.why(error)}", "try again") from error
