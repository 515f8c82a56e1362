"""G8: whoever is not an authenticated member of this folder reaches nothing past TLS, and holds nothing for long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from peers import FOLDER, Cluster, digest_of, eventually

from onefold.core.messages import Hello, Reach, Reached
from onefold.core.wire import encode_message
from onefold.edge import bulk, doors, link, transfer
from onefold.edge.tls import Authority, client_context, server_context
from onefold.errors import PeerError, PeerGone, PeerRefused

DEADLINE = 0.3
PORTS = ["control", "bulk"]


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Node `b` alone, waiting for `a`, which the tests play; `c` is called as a witness that `b` still works."""
    monkeypatch.setattr(transfer, "HANDSHAKE_SECONDS", DEADLINE)
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", DEADLINE)
    monkeypatch.setattr(bulk, "HANDSHAKE_SECONDS", DEADLINE)
    cluster = Cluster(tmp_path, "abc")
    try:
        await cluster.start("b")
        yield cluster
        await works(cluster)
    finally:
        await cluster.close()


async def works(cluster: Cluster) -> None:
    await cluster.start("c")
    await cluster.joined("b", "c")
    assert await cluster.networks["c"].ask("b", Reach("x"), 5) == Reached(True)
    cluster.handlers["b"].contents[digest_of(b"x")] = b"x"
    await cluster.networks["c"].fetch(digest_of(b"x"), 1, ["b"])


def address(cluster: Cluster, port: str) -> tuple[str, int]:
    host, control = cluster.members["b"]
    return host, control + PORTS.index(port)


def first_words(port: str, message: bytes) -> bytes:
    """`message` framed as the first on a connection."""
    return (struct.pack(">IBQ", len(message), 0, 0) if port == "control" else struct.pack(">I", len(message))) + message


def hello(node: str = "a", folder: str = FOLDER, rules: int = 1) -> bytes:
    return encode_message(Hello(folder, node, 1, rules))


@contextlib.contextmanager
def plain(where: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(where, timeout=10) as sock:
        yield sock


@contextlib.contextmanager
def secured(where: tuple[str, int], context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection(where, timeout=10) as sock, context.wrap_socket(sock) as tls:
        yield tls


def drain(sock: socket.socket) -> bytes:
    """Everything until the other side closes; hangs (and times out) if it does not."""
    data = b""
    try:
        while part := sock.recv(65536):
            data += part
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def member(cluster: Cluster, name: str = "a") -> ssl.SSLContext:
    return client_context(*cluster.keys(name))


# ---------------------------------------------------------------------------------------------------- before TLS


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100_000),
        b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000,
        first_words("control", hello()),
    ],
    ids=["http", "zeros", "false handshake", "hello without tls"],
)
async def test_plaintext_is_closed(cluster: Cluster, port: str, garbage: bytes) -> None:
    def attack() -> None:
        with plain(address(cluster, port)) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(garbage)
            drain(sock)

    await asyncio.to_thread(attack)
    assert cluster.handlers["b"].untouched


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01\x02\x00"], ids=["nothing", "the start of a handshake"])
async def test_who_does_not_finish_the_handshake_is_closed_at_the_deadline(
    cluster: Cluster, port: str, says: bytes
) -> None:
    def attack() -> None:
        with plain(address(cluster, port)) as sock:
            sock.sendall(says)
            drain(sock)

    await asyncio.gather(*(asyncio.to_thread(attack) for _ in range(8)))
    assert cluster.handlers["b"].untouched


@pytest.mark.parametrize("port", PORTS)
async def test_who_is_in_the_middle_of_a_handshake_does_not_outlive_the_node(
    cluster: Cluster, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "HANDSHAKE_SECONDS", 1000.0)
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 1000.0)
    monkeypatch.setattr(bulk, "HANDSHAKE_SECONDS", 1000.0)
    with plain(address(cluster, port)) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00")
        network = cluster.networks["b"]
        await eventually(lambda: network._strangers == 1 or len(network._bulk_server._threads) == 2)
        await cluster.stop("b")
        await asyncio.to_thread(drain, sock)
    await cluster.start("b")


# ---------------------------------------------------------------------------------------------------- certificates


def bare(cluster: Cluster) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cluster.keys("b")[0])
    return context


def old(cluster: Cluster) -> ssl.SSLContext:
    context = member(cluster)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def foreign(cluster: Cluster) -> ssl.SSLContext:
    cluster.issue("a", Authority.create(cluster.directory / "other"), to="foreign")
    context = client_context(*cluster.keys("foreign"))
    context.load_verify_locations(cluster.keys("b")[0])
    return context


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("context", [bare, old, foreign], ids=["no certificate", "tls 1.2", "another authority"])
async def test_who_has_no_certificate_of_ours_is_closed(cluster: Cluster, port: str, context: object) -> None:
    assert callable(context)
    ready = context(cluster)

    def attack() -> bytes:
        with contextlib.suppress(ConnectionError, ssl.SSLError), secured(address(cluster, port), ready) as tls:
            with contextlib.suppress(ConnectionError):
                tls.sendall(first_words(port, hello()) + os.urandom(1000))
            return drain(tls)
        return b""

    assert await asyncio.to_thread(attack) == b""
    assert cluster.handlers["b"].untouched


@pytest.mark.parametrize("port", PORTS)
async def test_a_valid_certificate_of_no_member_is_refused_and_shown(cluster: Cluster, port: str) -> None:
    cluster.issue("stranger")

    def attack() -> bytes:
        with secured(address(cluster, port), member(cluster, "stranger")) as tls:
            with contextlib.suppress(ConnectionError):
                tls.sendall(first_words(port, hello("stranger")))
            return drain(tls)

    assert b"no other member named stranger" in await asyncio.to_thread(attack)
    assert cluster.handlers["b"].untouched
    if port == "control":
        assert ["no other member named stranger" in p.what for p in cluster.networks["b"].problems()] == [True]


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (hello(folder="folder-2"), b"folder folder-2"),
        (hello(rules=2), b"rules 2"),
        (hello(node="c"), b"certificate of a"),
        (encode_message(Reach("x")), b""),
        (b"\xc1 no msgpack", b""),
        (b"", b""),
    ],
    ids=["another folder", "other rules", "another's name", "no hello", "garbage", "empty"],
)
async def test_a_member_that_does_not_say_the_right_hello_is_refused(
    cluster: Cluster, port: str, words: bytes, reason: bytes
) -> None:
    def attack() -> bytes:
        with secured(address(cluster, port), member(cluster)) as tls:
            tls.sendall(first_words(port, words))
            return drain(tls)

    answer = await asyncio.to_thread(attack)
    assert reason in answer
    assert b"hello" not in answer or b"refused" in answer
    assert cluster.handlers["b"].untouched
    if port == "control":
        assert len(cluster.networks["b"].problems()) == 1


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("size", [doors.HELLO_BYTES_MAX + 1, 2**32 - 1])
async def test_an_oversize_hello_is_closed_before_it_is_read(cluster: Cluster, port: str, size: int) -> None:
    def attack() -> None:
        with secured(address(cluster, port), member(cluster)) as tls:
            tls.sendall(struct.pack(">IBQ", size, 0, 0) if port == "control" else struct.pack(">I", size))
            drain(tls)

    await asyncio.to_thread(attack)
    assert cluster.handlers["b"].untouched


@pytest.mark.parametrize("port", PORTS)
async def test_a_hello_that_drips_is_closed_at_the_deadline(cluster: Cluster, port: str) -> None:
    """Each byte comes well before any timeout of a single read."""
    words = first_words(port, hello(folder="x" * 500))

    def attack() -> int:
        with secured(address(cluster, port), member(cluster)) as tls:
            tls.settimeout(DEADLINE / 20)
            for sent, byte in enumerate(words):
                try:
                    tls.sendall(bytes([byte]))
                    if not tls.recv(1):
                        return sent
                except TimeoutError:
                    continue
                except (ConnectionError, ssl.SSLError):
                    return sent
        return len(words)

    assert await asyncio.to_thread(attack) < len(words)
    assert cluster.handlers["b"].untouched


# ---------------------------------------------------------------------------------------------------- members gone mad


def as_member(cluster: Cluster, port: str, then: bytes) -> bytes:
    """`a` says a right hello and then `then`; returns all that `b` says until it closes."""
    with secured(address(cluster, port), member(cluster)) as tls:
        tls.sendall(first_words(port, hello()) + then)
        return drain(tls)


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">IBQ", link.FRAME_BYTES_MAX + 1, 0, 0),
        struct.pack(">IBQ", 4, 0, 0) + b"\xc1\xc1\xc1\xc1",
        struct.pack(">IBQ", 0, 1, 7),
        struct.pack(">IBQ", len(encode_message(Reach("x"))), 9, 0) + encode_message(Reach("x")),
        struct.pack(">IBQ", 60_000, 1, 7) + b"\x91" * 60_000,
    ],
    ids=["oversize", "no msgpack", "empty", "unknown kind", "nested deeply"],
)
async def test_a_malformed_frame_ends_the_session_and_reaches_nobody(cluster: Cluster, frame: bytes) -> None:
    await asyncio.to_thread(as_member, cluster, "control", frame)
    assert cluster.handlers["b"].log == [("joined", "a"), ("left", "a")]
    assert cluster.handlers["b"].messages == []
    assert len(cluster.networks["b"].problems()) == 1


async def test_a_truncated_frame_reaches_nobody(cluster: Cluster) -> None:
    words = first_words("control", hello())
    whole = struct.pack(">IBQ", len(encode_message(Reach("x"))), 1, 1) + encode_message(Reach("x"))

    def attack() -> None:
        with secured(address(cluster, "control"), member(cluster)) as tls:
            tls.sendall(words + whole[:-1])

    await asyncio.to_thread(attack)
    await eventually(lambda: ("left", "a") in cluster.handlers["b"].log)
    assert cluster.handlers["b"].log == [("joined", "a"), ("left", "a")]
    assert cluster.handlers["b"].messages == []


async def test_an_answer_that_nobody_asked_for_is_ignored(cluster: Cluster) -> None:
    answer = struct.pack(">IBQ", len(encode_message(Reached(True))), 2, 99) + encode_message(Reached(True))

    def attack() -> bytes:
        with secured(address(cluster, "control"), member(cluster)) as tls:
            tls.sendall(first_words("control", hello()) + answer)
            ask = encode_message(Reach("x"))
            tls.sendall(struct.pack(">IBQ", len(ask), 1, 5) + ask)
            data = b""
            while b"reached" not in data:
                data += tls.recv(4096)
            return data

    assert encode_message(Reached(True)) in await asyncio.to_thread(attack)
    assert cluster.handlers["b"].messages == [Reach("x")]


async def test_a_truncated_bulk_request_asks_for_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "IDLE_SECONDS", DEADLINE)
    await asyncio.to_thread(as_member, cluster, "bulk", b"x" * 39)
    assert cluster.handlers["b"].located == []


async def test_an_offset_beyond_the_end_gets_no_bytes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "IDLE_SECONDS", DEADLINE)
    (cluster.directory / "file").write_bytes(b"content")
    for content in (b"content", cluster.directory / "file"):
        cluster.handlers["b"].contents[digest_of(b"content")] = content
        request = struct.pack(">32sQ", digest_of(b"content"), 2**63)
        said = await asyncio.to_thread(as_member, cluster, "bulk", request)
        assert said.endswith(struct.pack(">?Q", True, 7))


async def test_one_peer_cannot_take_all_bulk_connections(cluster: Cluster) -> None:
    def attack(stack: contextlib.ExitStack) -> list[bytes]:
        answers = []
        for _ in range(bulk.PER_PEER_MAX + 2):
            tls = stack.enter_context(secured(address(cluster, "bulk"), member(cluster)))
            tls.sendall(first_words("bulk", hello()))
            answers.append(tls.recv(4096))
        return answers

    with contextlib.ExitStack() as stack:
        answers = await asyncio.to_thread(attack, stack)
        assert [b"busy" in answer for answer in answers] == [False] * bulk.PER_PEER_MAX + [True] * 2
        await works(cluster)
        await cluster.stop("c")


async def test_strangers_that_wait_in_the_bulk_port_are_limited(cluster: Cluster) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(bulk.STRANGERS_MAX * 2):
            stack.enter_context(plain(address(cluster, "bulk")))
        await eventually(lambda: len(cluster.networks["b"]._bulk_server._threads) == 1)
    assert cluster.handlers["b"].untouched


# ---------------------------------------------------------------------------------------------------- false servers


async def test_a_node_that_answers_at_anothers_address_is_refused(cluster: Cluster) -> None:
    members = {**cluster.members, "c": cluster.members["b"]}
    network = await cluster.start("a", members=members)
    await eventually(lambda: any("b answers at the address of c" in p.what for p in network.problems()))
    with pytest.raises(PeerRefused, match="b answers at the address of c"):
        await network.fetch(digest_of(b"x"), 1, ["c"])
    assert "c" not in network.connected()
    assert ("joined", "c") not in cluster.handlers["a"].log
    await cluster.stop("a")


async def test_a_server_of_another_authority_is_not_spoken_to_and_shown(cluster: Cluster) -> None:
    cluster.issue("c", Authority.create(cluster.directory / "other"), to="foreign")
    await cluster.start("c", keys="foreign")
    problems = cluster.networks["b"].problems
    await eventually(lambda: any("c" in p.what and "authority" in p.fix for p in problems()))
    with pytest.raises(PeerGone):
        await cluster.networks["b"].fetch(digest_of(b"x"), 1, ["c"])
    assert cluster.handlers["b"].untouched
    assert cluster.handlers["c"].untouched
    await cluster.stop("c")


@pytest.mark.parametrize(
    ("settings", "reason"), [({"folder": "folder-2"}, "folder-2"), ({"rules": 2}, "rules 2")], ids=["folder", "rules"]
)
async def test_nodes_of_other_folders_or_rules_never_join_and_both_show_why(
    cluster: Cluster, settings: dict[str, object], reason: str
) -> None:
    other = await cluster.start("c", **settings)  # type: ignore[arg-type]
    for network in (cluster.networks["b"], other):
        await eventually(lambda network=network: any(reason in p.what for p in network.problems()))  # type: ignore[misc]
    with pytest.raises(PeerError, match=reason):
        await other.fetch(digest_of(b"x"), 1, ["b"])
    assert cluster.handlers["b"].untouched
    assert cluster.handlers["c"].untouched
    await cluster.stop("c")


async def test_a_refused_node_joins_once_it_is_mended_and_the_problem_is_gone(cluster: Cluster) -> None:
    await cluster.start("c", folder="folder-2")
    await eventually(lambda: cluster.networks["b"].problems() != [])
    await cluster.stop("c")
    await works(cluster)
    assert cluster.networks["b"].problems() == []
    await cluster.stop("c")


async def test_a_source_that_lies_about_everything_gives_nothing(cluster: Cluster) -> None:
    """`a` holds a right certificate; its bulk port says yes to all, and sends nonsense, too little or nothing."""
    context = server_context(*cluster.keys("a"))
    host, port = cluster.members["a"]
    found = struct.pack(">?Q", True, 7)
    lies = [b"", b"\x01", found, found + b"CONTENT", struct.pack(">?Q", True, 2**60)]

    def lie(listener: socket.socket) -> None:
        for body in [*lies, *lies]:
            with listener.accept()[0] as sock, context.wrap_socket(sock, server_side=True) as tls:
                tls.recv(4096)
                tls.sendall(first_words("bulk", hello()))
                if tls.recv(4096):
                    tls.sendall(body)

    with socket.create_server((host, port + 1)) as listener:
        listener.settimeout(10)
        lying = asyncio.ensure_future(asyncio.to_thread(lie, listener))
        for _ in [*lies, *lies]:
            with pytest.raises(PeerError):
                await cluster.networks["b"].fetch(digest_of(b"content"), 7, ["a"])
        await lying
    assert not cluster.stores["b"].has(digest_of(b"content"))
    assert cluster.handlers["b"].untouched


async def test_a_source_that_falls_silent_does_not_hang_the_fetch(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "IO_SECONDS", DEADLINE)
    host, port = cluster.members["a"]
    with socket.create_server((host, port + 1)), pytest.raises(PeerGone):
        await cluster.networks["b"].fetch(digest_of(b"x"), 1, ["a"])


async def test_a_control_port_that_falls_silent_is_dialled_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CONNECT_SECONDS", DEADLINE)
    with socket.create_server(cluster.members["c"]) as listener:
        listener.settimeout(10)
        for _ in range(3):
            sock, _ = await asyncio.to_thread(listener.accept)
            sock.close()
    assert cluster.handlers["b"].untouched
