"""HTTP/2 as a server may speak it: frames in any pieces, narrow windows, refusals, silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from onefold.edge import grpc_wire
from onefold.edge.grpc_wire import Broken, Connection, Refusal, connect
from onefold.edge.hpack_decode import literal

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def trailers(status: bytes, text: bytes = b"") -> bytes:
    return literal(b"grpc-status", status) + (literal(b"grpc-message", text) if text else b"")


class Server:
    """One connection, seen from the server: frames in, bytes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, int, int, bytes]:
        head = await self.reader.readexactly(9)
        payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    async def until(self, *kinds: int) -> tuple[int, int, int, bytes]:
        while True:
            got = await self.frame()
            if got[0] in kinds:
                return got

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))


@asynccontextmanager
async def talking(play: Callable[[Server], Awaitable[None]], settings: bytes = b"") -> AsyncIterator[Connection]:
    """A connection to a server that plays `play` once it is set up; a failure there fails the test."""
    played: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert (await reader.readexactly(24)).startswith(b"PRI * HTTP/2.0")
            server = Server(reader, writer)
            server.send(frame(SETTINGS, 0, 0, settings))
            await play(server)
            played.set_result(None)
        except BaseException as error:
            played.set_exception(error)
            raise
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = await connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
    try:
        yield connection
        await asyncio.wait_for(played, 10)
    finally:
        connection.close()
        server.close()
        await server.wait_closed()


async def test_an_answer_is_read_in_whatever_pieces_it_comes() -> None:
    async def play(server: Server) -> None:
        _, _, number, headers = await server.until(HEADERS)
        assert literal(b":path", b"/a/B") in headers
        assert (await server.until(DATA))[1:] == (1, number, message(b"ping"))
        body = message(b"pong")
        answer = (
            frame(HEADERS, 0, number, b"\x88")
            + frame(CONTINUATION, 4, number, literal(b"x", b"y"))
            + frame(DATA, 8, number, b"\x03" + body[:7] + b"\0\0\0")
            + frame(DATA, 0, number, body[7:])
            + frame(HEADERS, 5, number, trailers(b"0"))
        )
        for byte in answer:
            server.send(bytes((byte,)))
            await server.writer.drain()
            await asyncio.sleep(0)

    async with talking(play) as connection:
        assert await connection.call("/a/B", b"ping") == b"pong"


async def test_calls_share_a_connection_and_answers_may_come_in_any_order() -> None:
    async def play(server: Server) -> None:
        calls = [await server.until(DATA) for _ in range(3)]
        for _, _, number, payload in reversed(calls):
            server.send(frame(DATA, 0, number, payload), frame(HEADERS, 5, number, trailers(b"0")))

    async with talking(play) as connection:
        answers = await asyncio.gather(*[connection.call("/a/B", b"%d" % n) for n in range(3)])
        assert answers == [b"0", b"1", b"2"]


async def test_a_refusal_carries_code_and_message() -> None:
    async def play(server: Server) -> None:
        _, _, number, _ = await server.until(DATA)
        server.send(frame(HEADERS, 5, number, b"\x88" + trailers(b"14", b"etcdserver: no%20leader")))

    async with talking(play) as connection:
        with pytest.raises(Refusal) as refusal:
            await connection.call("/a/B", b"")
        assert (refusal.value.code, refusal.value.message) == (14, "etcdserver: no leader")


@pytest.mark.parametrize(
    "end",
    [
        frame(HEADERS, 5, 1, b"\x8d"),  # 404, no gRPC
        frame(HEADERS, 5, 1, trailers(b"0")),  # the end without an answer
        frame(DATA, 1, 1, b""),
        frame(RST, 0, 1, (7).to_bytes(4, "big")),
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(HEADERS, 5, 1, b"\x00\x05"),  # no header block
        b"\xff" * 9,  # no frame
        b"",  # the connection closes
    ],
)
async def test_every_other_end_is_a_broken_call(end: bytes) -> None:
    async def play(server: Server) -> None:
        await server.until(DATA)
        server.send(end)

    async with talking(play) as connection:
        with pytest.raises(Broken):
            await connection.call("/a/B", b"")


async def test_no_more_is_sent_than_the_servers_windows_allow() -> None:
    data = bytes(range(256)) * 400

    async def play(server: Server) -> None:
        got = b""
        room = 1000
        while len(got) < len(message(data)):
            _, flags, number, payload = await server.until(DATA)
            room -= len(payload)
            assert room >= 0
            got += payload
            if room == 0:
                room = 20000
                grant = room.to_bytes(4, "big")
                server.send(frame(WINDOW, 0, number, grant), frame(WINDOW, 0, 0, grant))
        assert got == message(data) and flags & 1
        server.send(frame(DATA, 0, number, message(b"all")), frame(HEADERS, 5, number, trailers(b"0")))

    window_of_1000 = (4).to_bytes(2, "big") + (1000).to_bytes(4, "big")
    async with talking(play, window_of_1000) as connection:
        assert await connection.call("/a/B", data) == b"all"


async def test_a_message_may_be_larger_than_a_streams_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_wire, "_STREAM_WINDOW", 1 << 18)
    size = 3 * grpc_wire._STREAM_WINDOW

    async def play(server: Server) -> None:
        _, _, number, _ = await server.until(DATA)
        room, left = grpc_wire._STREAM_WINDOW, message(bytes(size))
        while left:
            part = min(16384, room, len(left))
            if part == 0:
                _, _, granted, payload = await server.until(WINDOW)
                room += int.from_bytes(payload, "big") if granted == number else 0
                continue
            server.send(frame(DATA, 0, number, left[:part]))
            await server.writer.drain()
            room, left = room - part, left[part:]
        server.send(frame(HEADERS, 5, number, trailers(b"0")))

    async with talking(play) as connection:
        assert len(await connection.call("/a/B", b"")) == size


async def test_a_cancelled_call_is_cancelled_at_the_server_and_the_connection_lives_on() -> None:
    async def play(server: Server) -> None:
        _, _, first, _ = await server.until(DATA)
        assert (await server.until(RST))[2] == first
        server.send(frame(DATA, 0, first, message(b"late")), frame(HEADERS, 5, first, trailers(b"0")))
        _, _, second, _ = await server.until(DATA)
        server.send(frame(DATA, 0, second, message(b"yes")), frame(HEADERS, 5, second, trailers(b"0")))

    async with talking(play) as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.call("/a/B", b""), 0.01)
        assert await connection.call("/a/B", b"") == b"yes"


async def test_pings_are_answered_and_a_probe_that_is_not_ends_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_wire, "PROBE_S", 0.01)

    async def play(server: Server) -> None:
        server.send(frame(PING, 0, 0, b"12345678"))
        assert (await server.until(PING))[1:] == (1, 0, b"12345678")
        await server.until(PING)
        assert await server.reader.read(1000) == b""

    async with talking(play) as connection:
        call = asyncio.ensure_future(connection.call("/a/B", b""))
        await asyncio.sleep(0)
        connection.probe()
        with pytest.raises(Broken, match="silent"):
            await call
        with pytest.raises(Broken):
            connection.stream("/a/B")


async def test_a_probe_that_is_answered_changes_nothing() -> None:
    async def play(server: Server) -> None:
        _, _, _, payload = await server.until(PING)
        server.send(frame(PING, 1, 0, payload))
        _, _, number, _ = await server.until(DATA)
        server.send(frame(DATA, 0, number, message(b"yes")), frame(HEADERS, 5, number, trailers(b"0")))

    async with talking(play) as connection:
        connection.probe()
        assert await connection.call("/a/B", b"") == b"yes"
        assert connection.end is None
