"""What a stranger could take for ever, and does not get: a real listener with TLS, and raw sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from onefold.api import app, connection, server
from onefold.api.answers import Leads
from onefold.api.json import BODY_BYTES_MAX
from onefold.api.listener import listen
from onefold.api.operation import Operation
from onefold.api.server import ApiServer
from onefold.api.service import Service
from onefold.api.stream import Stream
from onefold.config import Address
from onefold.core.messages import Message, Moved
from onefold.core.roster import Roster, with_token
from onefold.edge.tls import Authority

SECRET = "secret"
SOON = 10.0
MEBIBYTE = bytes(1 << 20)
LONG = bytes(16 << 20)


class Listener:
    """An API with few connections, and one operation that gives without an end."""

    def __init__(self, directory: Path, port: int) -> None:
        self.given = 0
        self.ended = asyncio.Event()
        self.address = Address("127.0.0.1", port)
        roster = with_token(Roster(), "admin", "admin", SECRET)
        tls = directory / "node"
        api = SimpleNamespace(
            enabled=True,
            listen=self.address,
            cert=tls / "node.crt",
            key=tls / "node.key",
            connections_max=3,
            body_bytes_max=1 << 20,
        )
        self.config: Any = SimpleNamespace(name="a", api=api)
        self.server = ApiServer(Service(self.config, self._ask, lambda: roster))
        self.trust = ssl.create_default_context(cafile=str(directory / "ca.crt"))

    def start(self) -> None:
        self._socket = listen(self.config.api)
        assert self._socket is not None
        self.server.start(self._socket)

    async def close(self) -> None:
        await self.server.close()
        assert self._socket is not None
        self._socket.close()

    async def _ask(self, message: Message) -> Message:
        return Moved("b", 7)

    async def endless(self, service: Service, request: Request) -> Response:
        async def parts() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    self.given += 1
                    yield MEBIBYTE
            finally:
                self.ended.set()

        return Stream(parts(), "text/plain", {})


class Peer:
    """A connection of whoever asks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: its status, headers and body."""
        async with asyncio.timeout(SOON):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return int(head[0].split()[1]), headers, body

    async def problem(self) -> tuple[int, str]:
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/problem+json"
        told = json.loads(body)
        assert told["status"] == status
        return status, told["title"]

    async def ended(self) -> None:
        """Returns once the connection is closed."""
        async with asyncio.timeout(SOON):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except (ConnectionError, ssl.SSLError):
                return

    def close(self) -> None:
        self.writer.transport.abort()


def request(method: str = "GET", path: str = "/healthz", *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def post(*headers: str, token: str = SECRET) -> bytes:
    return request("POST", "/v1/leader", f"Authorization: Bearer {token}", *headers)


BODY = b'{"node": "b"}'


@pytest.fixture
async def listener(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Listener]:
    Authority.create(tmp_path).issue("a", [], tmp_path / "node", "f")
    made: list[Listener] = []

    async def endless(service: Service, request: Request) -> Response:
        return await made[0].endless(service, request)

    async def long(service: Service, request: Request) -> Response:
        return Response(LONG)

    mine = (("/endless", endless), ("/long", long))
    operations = (*app.OPERATIONS, *(Operation("GET", path, None, handle, "", answer=Leads) for path, handle in mine))
    monkeypatch.setattr(app, "OPERATIONS", operations)
    made.append(Listener(tmp_path, unused_tcp_port_factory()))
    made[0].start()
    yield made[0]
    async with asyncio.timeout(SOON):
        await made[0].close()


@asynccontextmanager
async def peer(listener: Listener, local: str = "127.0.0.1") -> AsyncIterator[Peer]:
    made = Peer(
        *await asyncio.open_connection(*listener.address, ssl=listener.trust, local_addr=(local, 0), limit=1 << 18)
    )
    try:
        yield made
    finally:
        made.close()


# ------------------------------------------------------------------------------------------------ what works


async def test_requests_one_after_the_other_share_a_connection(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request() + request())  # the second before the answer to the first
        for _ in range(2):
            assert (await asking.answer())[0] == 200
        asking.send(post("Content-Length: 13"))
        asking.send(BODY)
        assert json.loads((await asking.answer())[2]) == {"leader": "b", "term": 7}
        asking.send(post("Transfer-Encoding: chunked") + b"d\r\n" + BODY + b"\r\n0\r\n\r\n" + request())
        for _ in range(2):
            assert (await asking.answer())[0] == 200


async def test_an_answer_has_a_date(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request())
        assert (await asking.answer())[1]["date"].endswith(" GMT")


async def test_no_answer_sends_anybody_to_the_host_that_was_named(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", "/healthz/"))
        status, headers, _ = await asking.answer()
        assert status == 404
        assert "location" not in headers


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/leader"])
async def test_an_answer_is_neither_guessed_at_nor_kept(listener: Listener, path: str) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", path))
        _, headers, _ = await asking.answer()
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


# ------------------------------------------------------------------------------------------------ sizes


async def test_long_headers_are_refused(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", "/healthz", f"X: {'x' * connection.HEADERS_BYTES_MAX}"))
        assert await asking.problem() == (431, f"the headers are longer than {connection.HEADERS_BYTES_MAX} bytes")


async def test_headers_that_would_become_too_long_are_not_read_to_their_end(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", "/healthz", f"X: {'x' * connection.HEADERS_BYTES_MAX}")[:-4])
        assert await asking.problem() == (431, f"the headers are longer than {connection.HEADERS_BYTES_MAX} bytes")
        await asking.ended()


@pytest.mark.parametrize("path", ["/", "/healthz?"])
async def test_a_long_path_is_refused(listener: Listener, path: str) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", path + "x" * connection.HEADERS_BYTES_MAX))
        assert (await asking.problem())[0] == 431


async def test_a_long_body_is_refused_and_not_read_to_its_end(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.2)
    async with peer(listener) as asking:
        asking.send(post("Content-Length: 1000000000") + bytes(BODY_BYTES_MAX + 1))
        assert await asking.problem() == (413, f"the request is longer than {BODY_BYTES_MAX} bytes")
        await asking.ended()


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_whoever_may_not_write_is_told_before_the_body_comes(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.2)
    async with peer(listener) as asking:
        asking.send(post("Content-Length: 1000000000", token=token))
        assert (await asking.problem())[0] == 401
        since = time.monotonic()
        await asking.ended()
        assert time.monotonic() - since < 5


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(listener: Listener, garbage: bytes) -> None:
    async with peer(listener) as asking:
        asking.send(garbage)
        status, title = await asking.problem()
        assert status in (400, 501)
        assert title
        await asking.ended()


async def test_a_body_that_makes_no_sense_ends_the_request(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(post("Transfer-Encoding: chunked") + b"nonsense\r\n")
        assert (await asking.problem())[0] == 400
        await asking.ended()


# ------------------------------------------------------------------------------------------------ times


async def test_whoever_does_not_shake_hands_is_dropped(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(*listener.address)
    silent = Peer(reader, writer)
    await silent.ended()
    silent.close()


async def test_headers_that_drip_in_are_not_waited_for(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADERS_SECONDS", 0.3)
    async with peer(listener) as asking:
        dripping = asyncio.create_task(drip(asking, request()[:-4] + b"\r\n" + b"X: x\r\n" * 50))
        assert await asking.problem() == (408, "no whole request came within 0.3 s")
        await asking.ended()
        dripping.cancel()


async def test_headers_that_drip_in_after_a_first_request_are_not_waited_for_either(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with peer(listener) as asking:
        asking.send(request())
        await asking.answer()
        monkeypatch.setattr(connection, "HEADERS_SECONDS", 0.3)
        dripping = asyncio.create_task(drip(asking, request()[:-4] + b"\r\n" + b"X: x\r\n" * 50))
        assert (await asking.problem())[0] == 408
        await asking.ended()
        dripping.cancel()


async def drip(asking: Peer, data: bytes) -> None:
    for each in data:
        asking.send(bytes([each]))
        await asyncio.sleep(0.02)


async def test_a_body_that_drips_in_is_not_waited_for(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.3)
    async with peer(listener) as asking:
        asking.send(post("Content-Length: 60000"))
        dripping = asyncio.create_task(drip(asking, bytes(1000)))
        assert (await asking.problem())[0] == 408
        await asking.ended()
        dripping.cancel()


async def test_a_body_that_takes_its_time_and_goes_on_is_waited_for(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(connection, "BODY_BYTES_MIN", 100)
    async with peer(listener) as asking:
        asking.send(post("Content-Length: 3000"))
        for _ in range(10):
            asking.send(b" " * 298)
            await asyncio.sleep(0.1)
        asking.send(BODY + b" " * 7)
        assert (await asking.answer())[0] == 200


async def test_a_connection_without_requests_is_closed(listener: Listener) -> None:
    listener.server._config.timeout_keep_alive = 0.2  # type: ignore[assignment]
    async with peer(listener) as asking:
        asking.send(request())
        await asking.answer()
        await asking.ended()


async def test_whoever_does_not_take_an_answer_is_dropped(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALL_SECONDS", 0.3)
    async with peer(listener) as asking:
        asking.send(request("GET", "/endless"))
        async with asyncio.timeout(SOON):
            await listener.ended.wait()
    assert listener.given < 200  # what the kernel's buffers take, and no more


async def test_the_last_answer_of_a_connection_may_be_taken_slowly_too(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", "/long", "Connection: close"))
        await asking.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.5 * server.STOP_SECONDS)
        assert await asking.reader.read(1) + await asking.reader.readexactly(len(LONG) - 1) == LONG


async def test_what_answers_somebody_who_has_gone_ends(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", "/endless"))
        await asking.reader.readexactly(1 << 16)
    async with asyncio.timeout(SOON):
        await listener.ended.wait()


async def test_stopping_does_not_wait_for_answers_without_an_end(listener: Listener) -> None:
    async with peer(listener) as asking:
        asking.send(request("GET", "/endless"))
        await asking.reader.readexactly(1 << 16)
        async with asyncio.timeout(SOON):
            await listener.close()
            await listener.ended.wait()
        await asking.ended()


# ------------------------------------------------------------------------------------------------ how many


async def test_who_waits_longest_makes_room_for_another(listener: Listener) -> None:
    async with peer(listener) as first, peer(listener) as second, peer(listener) as third:
        for asking in (second, third, first):
            asking.send(request())
            await asking.answer()
        async with peer(listener) as fourth:
            fourth.send(request())
            assert (await fourth.answer())[0] == 200
            await second.ended()
            first.send(request())
            assert (await first.answer())[0] == 200


async def test_who_is_being_answered_is_not_sent_away_for_another(listener: Listener) -> None:
    async with peer(listener) as first, peer(listener) as second, peer(listener) as third:
        for asking in (first, second, third):
            asking.send(request("GET", "/endless"))
            await asking.reader.readexactly(1 << 16)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*listener.address, ssl=listener.trust)
        await first.reader.readexactly(1 << 16)


async def test_who_guesses_tokens_has_to_wait_and_nobody_else(listener: Listener) -> None:
    async with peer(listener) as guessing, peer(listener, "127.0.0.2") as other:
        for _ in range(10):
            guessing.send(post("Content-Length: 13", token="wrong") + BODY)
            assert (await guessing.problem())[0] == 401
        guessing.send(post("Content-Length: 13") + BODY)
        status, headers, _ = await guessing.answer()
        assert status == 429
        assert 0 < int(headers["retry-after"]) <= 6
        other.send(post("Content-Length: 13") + BODY)
        assert (await other.answer())[0] == 200
