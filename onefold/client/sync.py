"""`Client`: the API for programs that wait."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from onefold.api import answers
from onefold.client import calls, transport
from onefold.client.attempts import Failure, Nodes, Reply, attempts
from onefold.client.body import Body
from onefold.client.calls import Call, Content, FolderPath
from onefold.client.download import Arriving, Part
from onefold.client.errors import ClientError, Unreachable
from onefold.client.events import SILENT_SECONDS, Event, Stream

T = TypeVar("T")
PAGE = 1000
PATIENCE_SECONDS = 60.0


class Client:
    """A cluster, reached through any of its nodes.

    Every method raises `onefold.client.ClientError`, or the one of its children that says what it was. A path is
    text, or bytes for names that are no UTF-8, relative to the folder. A client may be used by several threads.
    """

    def __init__(
        self,
        addresses: str | Iterable[str],
        token: str,
        ca: transport.Authority = None,
        seconds: float = transport.SECONDS,
    ) -> None:
        """`addresses` are where nodes serve the API ("host:port"). `ca` is the file of the cluster's authority, or a
        context for TLS; None for certificates that this machine trusts. `seconds`: how long a node may be silent."""
        self._nodes = Nodes(addresses)
        self._http = httpx.Client(**transport.settings(token, ca, seconds)._asdict())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -------------------------------------------------------------------------------------------- the cluster

    def status(self) -> answers.Status:
        """How every node is."""
        return self._do(calls.status())

    def members(self) -> tuple[answers.MemberTold, ...]:
        return self._do(calls.members()).members

    def move_leader(self, node: str) -> answers.Leads:
        """Make `node` the leader."""
        return self._do(calls.move_leader(node))

    def confirm(self, node: str | None = None) -> answers.ConfirmedTold:
        """What was gone from the folder of `node` (None: of the one that asks) when it started was meant to go."""
        return self._do(calls.confirm(node))

    def metrics(self) -> str:
        """The metrics of the node that answers, for Prometheus."""
        return self._do(calls.metrics()).decode()

    # -------------------------------------------------------------------------------------------- reading

    def list(self, path: FolderPath = "", linearizable: bool = False) -> Iterator[answers.ListEntry]:
        """What the directory `path` holds, by name. `linearizable`: with all that was written before, wherever."""
        after: str | None = None
        while True:
            page = self._do(calls.listing(path, after, PAGE, linearizable and after is None))
            yield from page.entries
            after = page.next
            if after is None:
                return

    def read(self, path: FolderPath, linearizable: bool = False) -> bytes:
        """The whole content of a file, checked against its digest."""
        with self.open(path, linearizable=linearizable) as arriving:
            return b"".join(arriving)

    @contextlib.contextmanager
    def open(
        self,
        path: FolderPath,
        first: int = 0,
        last: int | None = None,
        if_range: str | None = None,
        linearizable: bool = False,
    ) -> Iterator[Arriving]:
        """The content of a file, part by part: from byte `first` to byte `last` (None: to the end), or all of it if its
        digest is not `if_range`. A whole content is checked against its digest at its end (`BadAnswer`)."""
        with self._answered(calls.content(path, first, last, if_range, linearizable)) as response:
            yield Arriving(Part(calls.facts(response.headers), response.status_code), _parts(response))

    def download(self, path: FolderPath, to: str | os.PathLike[str], linearizable: bool = False) -> calls.Facts:
        """Bring a file's content to the local file `to`, which is replaced once all of it is there, and checked."""
        partial = f"{os.fspath(to)}.{secrets.token_hex(4)}.partial"
        try:
            with open(partial, "wb") as file, self.open(path, linearizable=linearizable) as arriving:
                file.writelines(arriving)
            os.replace(partial, to)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        return arriving.facts

    def history(self, path: FolderPath | None = None, limit: int | None = None) -> tuple[answers.PastChange, ...]:
        """What became of `path`, or of everything (None), newest first."""
        return self._do(calls.history(path, limit)).changes

    # -------------------------------------------------------------------------------------------- writing

    def write(
        self,
        path: FolderPath,
        content: Content,
        if_match: str | None = None,
        if_absent: bool = False,
        mode: int | None = None,
        mtime_ns: int | None = None,
    ) -> answers.Written:
        """Write a file; its directories are made. Returns once it is committed.

        `if_match`: only over content with that digest ("*": over any); `if_absent`: only where nothing is; else
        `PreconditionFailed`, and nothing changed.
        """
        return self._do(calls.write(path, content, if_match, if_absent, mode, mtime_ns))

    def make_directory(self, path: FolderPath) -> answers.Written:
        """Make a directory, and those above it."""
        return self._do(calls.make_directory(path))

    def remove(self, path: FolderPath, recursive: bool = False, if_match: str | None = None) -> int:
        """Remove a file, symlink or directory; with `recursive`, one that is not empty. Returns the index."""
        return self._do(calls.remove(path, recursive, if_match)).index

    def move(self, source: FolderPath, to: FolderPath, if_match: str | None = None) -> answers.MovedTo:
        """Give `source` another path."""
        return self._do(calls.move(source, to, if_match))

    # -------------------------------------------------------------------------------------------- strays

    def strays(self) -> answers.StraysTold:
        """What was kept aside, on all nodes."""
        return self._do(calls.strays())

    def read_stray(self, node: str, id: str) -> bytes:
        return self._do(calls.stray(node, id))

    def restore_stray(self, node: str, id: str, to: FolderPath | None = None) -> answers.Written:
        """Write a stray's content to where it stood, or to `to`, and drop it."""
        return self._do(calls.restore_stray(node, id, to))

    def drop_stray(self, node: str, id: str) -> None:
        """Delete a stray for good."""
        self._do(calls.drop_stray(node, id))

    # -------------------------------------------------------------------------------------------- events

    def events(self, since: int | None = None, patience: float = PATIENCE_SECONDS) -> Iterator[Event]:
        """What happens, for ever: each entry after `since` (None: from now on), when it is everywhere, and the status.

        A stream that breaks off is taken up again, also at another node, without a gap; a `Reset` says where that was
        not possible. Raises `Unreachable` once no node has answered for `patience` seconds, or none ever did.
        """
        stream = Stream(since, patience)
        while True:
            ended: ClientError | None = None
            try:
                with self._answered(stream.call(), SILENT_SECONDS) as response:
                    for part in _parts(response):
                        yield from stream.feed(part)
            except ClientError as error:
                ended = error
            time.sleep(stream.pause(ended))

    # -------------------------------------------------------------------------------------------- asking

    def _do(self, call: Call[T]) -> T:
        with self._answered(call) as response:
            return calls.decode(call, b"".join(_parts(response)))

    @contextlib.contextmanager
    def _answered(self, call: Call[Any], seconds: float | None = None) -> Iterator[httpx.Response]:
        """The successful answer to `call`, its body yet to be read; `seconds`: how long its node may be silent."""
        with contextlib.ExitStack() as opened:
            body = opened.enter_context(Body(call.content)) if call.content is not None else None
            response = self._ask(call, body, seconds)
            opened.callback(response.close)
            yield response

    def _ask(self, call: Call[Any], body: Body | None, seconds: float | None) -> httpx.Response:
        course = attempts(self._nodes, call)
        url = next(course)
        while True:
            given = transport.arguments(url, call, body, seconds)
            if body is not None:
                given["content"] = body.parts()
            response: httpx.Response | None = None
            came: Reply | Failure
            try:
                response = self._http.send(self._http.build_request(**given), stream=True)
                if response.is_error:
                    response.read()
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
                    response.close()


def _parts(response: httpx.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_raw()
    except httpx.TransportError as error:
        raise Unreachable(f"the answer broke off: {transport.why(error)}", "try again") from error
