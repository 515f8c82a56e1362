"""Peers that are who they say: messages, reconnection, and content by digest, over real sockets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from peers import HOST, Cluster, digest_of, eventually, free_port

from onefold.core.messages import Flush, Held, Hold, Reach, Reached, Report
from onefold.edge import bulk
from onefold.edge.link import FRAME_BYTES_MAX, UNSENT_BYTES_MAX
from onefold.errors import ContentMismatch, OperatorError, PeerError, PeerGone, PeerRefused


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, "abc")
    try:
        yield cluster
    finally:
        await cluster.close()


async def started(cluster: Cluster, names: str) -> None:
    for name in names:
        await cluster.start(name)
    await cluster.joined()


def report(node: str, applied: int, filler: int = 0) -> Report:
    return Report(node, 1, "voter", "", 0, applied, 0, 0, ((1, b"x" * filler),), 0, 0, (), (), False, True)


# ---------------------------------------------------------------------------------------------------- messages


async def test_all_pairs_connect_and_each_side_joins_once(cluster: Cluster) -> None:
    await started(cluster, "abc")
    for name in "abc":
        assert sorted(cluster.handlers[name].log) == [("joined", other) for other in "abc" if other != name]
        assert cluster.networks[name].problems() == []


async def test_an_ask_is_answered_in_both_directions(cluster: Cluster) -> None:
    await started(cluster, "ab")
    assert await cluster.networks["a"].ask("b", Reach("x"), 5) == Reached(True)
    assert await cluster.networks["b"].ask("a", Reach("x"), 5) == Reached(True)


async def test_many_asks_at_once_each_get_their_own_answer(cluster: Cluster) -> None:
    await started(cluster, "ab")
    digests = [number.to_bytes(32) for number in range(2000)]
    asks = (cluster.networks["a"].ask("b", Hold(digest, 0, b""), 20) for digest in digests)
    assert await asyncio.gather(*asks) == [Held(digest) for digest in digests]


async def test_an_ask_that_is_stuck_does_not_hold_up_another(cluster: Cluster) -> None:
    await started(cluster, "ab")
    stuck = asyncio.ensure_future(cluster.networks["a"].ask("b", Reach("stuck"), 20))
    assert await cluster.networks["a"].ask("b", Reach("x"), 5) == Reached(True)
    cluster.handlers["b"].stuck.set()
    assert await stuck == Reached(False)


async def test_an_error_of_the_handler_is_a_refusal_with_its_fix(cluster: Cluster) -> None:
    await started(cluster, "ab")
    with pytest.raises(PeerRefused, match="not now: ask later"):
        await cluster.networks["a"].ask("b", Reach("refused"), 5)


async def test_a_bug_of_the_handler_is_shown_there_and_refused_here(cluster: Cluster) -> None:
    shown: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: shown.append(context["exception"]))
    await started(cluster, "ab")
    with pytest.raises(PeerRefused, match="failed to answer"):
        await cluster.networks["a"].ask("b", Reach("broken"), 5)
    assert await cluster.networks["a"].ask("b", Reach("x"), 5) == Reached(True)
    await eventually(lambda: len(shown) == 1)


async def test_an_ask_without_an_answer_in_time_is_peer_gone(cluster: Cluster) -> None:
    await started(cluster, "ab")
    with pytest.raises(PeerGone, match="did not answer"):
        await cluster.networks["a"].ask("b", Reach("stuck"), 0.05)


async def test_an_ask_to_nobody_is_peer_gone(cluster: Cluster) -> None:
    await cluster.start("a")
    for nobody in ("b", "x", "a"):
        with pytest.raises(PeerGone, match=f"no connection to {nobody}"):
            await cluster.networks["a"].ask(nobody, Flush(), 5)


@pytest.mark.parametrize(("asker", "dies"), ["ab", "ba"])
async def test_an_ask_in_flight_fails_when_the_peer_dies(cluster: Cluster, asker: str, dies: str) -> None:
    await started(cluster, "ab")
    ask = asyncio.ensure_future(cluster.networks[asker].ask(dies, Reach("stuck"), 1000))
    await cluster.handlers[dies].asked.wait()
    await cluster.networks.pop(dies).close()
    with pytest.raises(PeerGone):
        await ask
    assert cluster.handlers[asker].log == [("joined", dies), ("left", dies)]


async def test_tells_arrive_in_order(cluster: Cluster) -> None:
    await started(cluster, "ab")
    sent = [report("a", number) for number in range(1000)]
    for message in sent:
        cluster.networks["a"].tell("b", message)
    await eventually(lambda: len(cluster.handlers["b"].messages) == len(sent))
    assert cluster.handlers["b"].messages == sent


async def test_a_tell_to_nobody_is_dropped(cluster: Cluster) -> None:
    await cluster.start("a")
    cluster.networks["a"].tell("b", report("a", 1))


async def test_a_large_message_passes_and_a_too_large_one_is_refused_here(cluster: Cluster) -> None:
    await started(cluster, "ab")
    data = os.urandom(FRAME_BYTES_MAX - 1000)
    assert await cluster.networks["a"].ask("b", Hold(digest_of(data), len(data), data), 10) == Held(digest_of(data))
    assert cluster.handlers["b"].messages == [Hold(digest_of(data), len(data), data)]
    with pytest.raises(PeerRefused, match="larger than"):
        await cluster.networks["a"].ask("b", Hold(b"", 0, data + bytes(1000)), 10)
    assert await cluster.networks["a"].ask("b", Reach("x"), 5) == Reached(True)


async def test_reports_to_a_peer_that_does_not_read_are_dropped_and_memory_stays_bounded(cluster: Cluster) -> None:
    await started(cluster, "ab")
    link = cluster.networks["b"]._sessions["a"]
    assert link._transport is not None
    link._transport.pause_reading()
    out = cluster.networks["a"]._sessions["b"]
    assert out._transport is not None
    for number in range(400):
        cluster.networks["a"].tell("b", report("a", number, filler=100_000))
        await asyncio.sleep(0)
    assert out._transport.get_write_buffer_size() < 2 * UNSENT_BYTES_MAX
    link._transport.resume_reading()
    assert await cluster.networks["a"].ask("b", Reach("x"), 10) == Reached(True)
    assert len(cluster.handlers["b"].messages) < 400


async def test_last_heard_grows_with_each_message(cluster: Cluster) -> None:
    await started(cluster, "ab")
    before = cluster.networks["b"].last_heard("a")
    assert before is not None and cluster.networks["b"].last_heard("c") is None
    cluster.networks["a"].tell("b", report("a", 1))
    await eventually(lambda: (cluster.networks["b"].last_heard("a") or 0) > before)


# ---------------------------------------------------------------------------------------------------- coming and going


@pytest.mark.parametrize("restarts", ["a", "b"])
async def test_a_restarted_peer_is_connected_again(cluster: Cluster, restarts: str) -> None:
    await started(cluster, "ab")
    stays = "b" if restarts == "a" else "a"
    for _ in range(3):
        await cluster.stop(restarts)
        await eventually(lambda: not cluster.networks[stays].connected())
        await cluster.start(restarts)
        await cluster.joined()
    assert cluster.handlers[stays].log == [("joined", restarts)] + [("left", restarts), ("joined", restarts)] * 3
    assert await cluster.networks[stays].ask(restarts, Reach("x"), 5) == Reached(True)


async def test_a_second_process_with_the_same_name_replaces_the_first_in_one_session_each(cluster: Cluster) -> None:
    await started(cluster, "ab")
    first = cluster.networks.pop("a")
    cluster.members["a"] = (HOST, free_port())
    second = await cluster.start("a")
    await eventually(lambda: cluster.handlers["b"].log.count(("joined", "a")) >= 2)
    await first.close()
    await cluster.joined()
    assert await second.ask("b", Reach("x"), 5) == Reached(True)
    log = cluster.handlers["b"].log
    assert log == [("joined", "a")] + [("left", "a"), ("joined", "a")] * (len(log) // 2)


async def test_a_taken_port_is_the_operators(cluster: Cluster) -> None:
    await cluster.start("a")
    cluster.members["b"] = cluster.members["a"]
    with pytest.raises(OperatorError, match="cannot listen"):
        await cluster.start("b")
    host, port = cluster.members["a"]
    cluster.members["b"] = (host, port - 1)  # its control port is free, and its bulk port is a's control port
    with pytest.raises(OperatorError, match="cannot listen"):
        await cluster.start("b")


def test_uvloop_serves_as_well(tmp_path: Path) -> None:
    """Its transports are not asyncio's: messages, a large one, a restart and a fetch pass through them here."""

    async def scenario() -> None:
        cluster = Cluster(tmp_path, "abc")
        try:
            await started(cluster, "ab")
            data = os.urandom(4 << 20)
            assert await cluster.networks["a"].ask("b", Hold(digest_of(data), 0, data), 10) == Held(digest_of(data))
            await cluster.stop("b")
            await eventually(lambda: cluster.handlers["a"].log == [("joined", "b"), ("left", "b")])
            await cluster.start("b")
            await cluster.joined()
            assert await cluster.networks["b"].ask("a", Reach("x"), 5) == Reached(True)
            cluster.handlers["a"].contents[digest_of(data)] = data
            await cluster.networks["b"].fetch(digest_of(data), len(data), ["a"])
        finally:
            await cluster.close()

    uvloop.run(scenario())


# ---------------------------------------------------------------------------------------------------- content


@pytest.mark.parametrize("size", [0, 1, bulk.CHUNK_BYTES, 64 << 20], ids=["0", "1", "one chunk", "64 MiB"])
@pytest.mark.parametrize("form", ["bytes", "file"])
async def test_fetched_content_is_here_and_durable(cluster: Cluster, tmp_path: Path, size: int, form: str) -> None:
    await started(cluster, "ab")
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    cluster.handlers["a"].contents[digest_of(data)] = data if form == "bytes" else tmp_path / "file"
    await cluster.networks["b"].fetch(digest_of(data), size, ["a"])
    assert cluster.stores["b"].read(digest_of(data)) == data


async def test_the_second_source_serves_what_the_first_lacks(cluster: Cluster) -> None:
    await started(cluster, "abc")
    cluster.handlers["c"].contents[digest_of(b"content")] = b"content"
    await cluster.networks["a"].fetch(digest_of(b"content"), 7, ["b", "c"])
    assert cluster.stores["a"].read(digest_of(b"content")) == b"content"
    assert cluster.handlers["b"].located == [digest_of(b"content")]


@pytest.mark.parametrize("wrong", [b"CONTENT", b"conten", b"contents"])
async def test_wrong_bytes_never_land_and_the_next_source_is_tried(cluster: Cluster, wrong: bytes) -> None:
    await started(cluster, "abc")
    digest = digest_of(b"content")
    cluster.handlers["b"].contents[digest] = wrong
    with pytest.raises(ContentMismatch, match=r"^b "):
        await cluster.networks["a"].fetch(digest, 7, ["b"])
    assert not cluster.stores["a"].has(digest)
    cluster.handlers["c"].contents[digest] = b"content"
    await cluster.networks["a"].fetch(digest, 7, ["b", "c"])
    assert cluster.stores["a"].read(digest) == b"content"


async def test_content_that_nobody_has_names_every_source(cluster: Cluster) -> None:
    await started(cluster, "ab")
    with pytest.raises(PeerRefused, match="b does not have"):
        await cluster.networks["a"].fetch(digest_of(b"x"), 1, ["b"])
    with pytest.raises(PeerError, match=r"b does not have.*c cannot be reached.*x is no member"):
        await cluster.networks["a"].fetch(digest_of(b"x"), 1, ["b", "c", "x"])
    with pytest.raises(PeerError, match="nobody"):
        await cluster.networks["a"].fetch(digest_of(b"x"), 1, [])


async def test_what_is_no_regular_file_is_not_served(cluster: Cluster, tmp_path: Path) -> None:
    await started(cluster, "ab")
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    for there in ("link", "pipe", "missing", "."):
        cluster.handlers["a"].contents[digest_of(b"x")] = tmp_path / there
        with pytest.raises(PeerRefused, match="does not have"):
            await cluster.networks["b"].fetch(digest_of(b"x"), 1, ["a"])


async def test_one_transfer_serves_all_who_want_the_same_content(cluster: Cluster) -> None:
    await started(cluster, "ab")
    data = os.urandom(8 << 20)
    cluster.handlers["a"].contents[digest_of(data)] = data
    await asyncio.gather(*(cluster.networks["b"].fetch(digest_of(data), len(data), ["a"]) for _ in range(10)))
    assert cluster.handlers["a"].located == [digest_of(data)]
    await cluster.networks["b"].fetch(digest_of(data), len(data), ["a"])
    assert cluster.handlers["a"].located == [digest_of(data)]


async def test_who_shares_a_failed_transfer_tries_sources_of_its_own(cluster: Cluster) -> None:
    await started(cluster, "abc")
    cluster.handlers["c"].contents[digest_of(b"x")] = b"x"
    first = asyncio.ensure_future(cluster.networks["a"].fetch(digest_of(b"x"), 1, ["b"]))
    await asyncio.sleep(0)
    await cluster.networks["a"].fetch(digest_of(b"x"), 1, ["c"])
    with pytest.raises(PeerRefused):
        await first


async def test_who_stops_waiting_does_not_stop_the_transfer_for_others(cluster: Cluster) -> None:
    await started(cluster, "ab")
    data = os.urandom(8 << 20)
    cluster.handlers["a"].contents[digest_of(data)] = data
    impatient = asyncio.ensure_future(cluster.networks["b"].fetch(digest_of(data), len(data), ["a"]))
    patient = asyncio.ensure_future(cluster.networks["b"].fetch(digest_of(data), len(data), ["a"]))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert cluster.stores["b"].has(digest_of(data))


async def test_many_contents_at_once_share_few_connections(cluster: Cluster) -> None:
    await started(cluster, "ab")
    contents = {digest_of(data): data for data in (os.urandom(10_000) for _ in range(200))}
    cluster.handlers["a"].contents.update(contents)
    await asyncio.gather(*(cluster.networks["b"].fetch(digest, 10_000, ["a"]) for digest in contents))
    assert all(cluster.stores["b"].read(digest) == data for digest, data in contents.items())
    assert cluster.networks["a"]._bulk_server._seats["b"] <= bulk.IDLE_PER_PEER


async def test_kept_connections_that_died_meanwhile_do_not_fail_a_fetch(cluster: Cluster) -> None:
    await started(cluster, "ab")
    cluster.handlers["a"].contents[digest_of(b"1")] = b"1"
    await cluster.networks["b"].fetch(digest_of(b"1"), 1, ["a"])
    await cluster.stop("a")
    await cluster.start("a")
    cluster.handlers["a"].contents[digest_of(b"2")] = b"2"
    await cluster.networks["b"].fetch(digest_of(b"2"), 1, ["a"])
    assert cluster.stores["b"].read(digest_of(b"2")) == b"2"


async def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await started(cluster, "ab")
    data = os.urandom(16 << 20)
    (tmp_path / "file").write_bytes(data)
    cluster.handlers["a"].contents[digest_of(data)] = tmp_path / "file"
    reads: list[int] = []
    preadv = os.preadv

    def breaking(fd: int, buffers: list[memoryview], offset: int) -> int:
        reads.append(offset)
        if len(reads) % 20 == 0:
            raise ConnectionResetError
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", breaking)
    await cluster.networks["b"].fetch(digest_of(data), len(data), ["a"])
    assert cluster.stores["b"].read(digest_of(data)) == data
    assert reads.count(0) == 1


async def test_a_file_that_is_cut_short_while_it_is_sent_fails_and_lands_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await started(cluster, "ab")
    data = os.urandom(4 << 20)
    (tmp_path / "file").write_bytes(data)
    cluster.handlers["a"].contents[digest_of(data)] = tmp_path / "file"
    preadv = os.preadv

    def cutting(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset > 1 << 20:
            os.truncate(tmp_path / "file", 1 << 20)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", cutting)
    with pytest.raises(PeerError):
        await cluster.networks["b"].fetch(digest_of(data), len(data), ["a"])
    assert not cluster.stores["b"].has(digest_of(data))
    assert [*(tmp_path / "objects" / "b" / "incoming").iterdir()] == []


async def test_a_fetch_in_flight_fails_when_we_close(cluster: Cluster) -> None:
    await started(cluster, "ab")
    data = bytes(1 << 20)
    stuck = asyncio.Event()

    async def locate(digest: bytes) -> bytes:
        stuck.set()
        await asyncio.Event().wait()
        return data

    cluster.handlers["a"].locate = locate  # type: ignore[method-assign]
    fetch = asyncio.ensure_future(cluster.networks["b"].fetch(digest_of(data), len(data), ["a"]))
    await stuck.wait()
    await cluster.stop("b")
    with pytest.raises(PeerGone):
        await fetch
