"""What `ports.Log` promises, on every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from etcds import EtcdCluster, append, first_few, lead

from onefold.edge import etcd_pb2 as pb
from onefold.edge.etcd_client import TXN
from onefold.edge.log_etcd import EtcdLog
from onefold.edge.log_memory import MemoryCluster, MemoryLog
from onefold.errors import Bug, LogTrimmed, LogUnavailable
from onefold.ports import Leader, Log


class Logs:
    """Handles of several nodes on one new log."""

    def __init__(self, open_one: Callable[[int], Log]) -> None:
        self._open_one = open_one
        self._handles: dict[int, Log] = {}

    def __getitem__(self, number: int) -> Log:
        """The handle of node `n<number>`."""
        if number not in self._handles:
            self._handles[number] = self._open_one(number)
        return self._handles[number]

    def lose_next_answer(self, number: int) -> None:
        """The next write of that node is carried out, but it is not told so."""
        handle = self[number]
        if isinstance(handle, MemoryLog):
            handle.lose_answers(1)
            return
        assert isinstance(handle, EtcdLog)
        client = handle._client
        real = client.call

        async def losing(method, request, attempt_s=None):  # type: ignore[no-untyped-def]
            answer = await real(method, request, attempt_s)
            if method.path.endswith("/Txn"):
                client.call = real  # type: ignore[method-assign]
                raise LogUnavailable("the answer was lost", "ask again")
            return answer

        client.call = losing  # type: ignore[method-assign]

    async def forget_all(self, number: int) -> None:
        """Remove every entry, the newest too, as no trim of ours does."""
        handle = self[number]
        if isinstance(handle, MemoryLog):
            handle._cluster.trim(await handle.head())
            return
        assert isinstance(handle, EtcdLog)
        delete = pb.DeleteRangeRequest(key=handle._log, range_end=handle._log_end)
        await handle._client.call(TXN, pb.TxnRequest(success=[pb.RequestOp(request_delete_range=delete)]))

    async def close(self) -> None:
        for handle in self._handles.values():
            await handle.close()


@pytest.fixture(params=["memory", "etcd"])
async def logs(request: pytest.FixtureRequest, folder: str) -> AsyncIterator[Logs]:
    if request.param == "memory":
        cluster = MemoryCluster()
        logs = Logs(lambda number: MemoryLog(cluster))
    else:
        etcd: EtcdCluster = request.getfixturevalue("one_etcd")
        logs = Logs(lambda number: etcd.log(number, folder))
    yield logs
    await logs.close()


# ---------------------------------------------------------------------------------------------------- append


async def test_a_new_log_is_empty_and_led_by_nobody(logs: Logs) -> None:
    assert await logs[0].head() == 0
    assert await logs[0].leader() is None


async def test_the_leader_appends_in_order(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 12)
    assert await logs[1].head() == 12


async def test_g6_a_deposed_leaders_append_fails_and_names_the_new_term(logs: Logs) -> None:
    old = await lead(logs[0], "n0")
    await append(logs[0], old, 1, 1)
    new = await lead(logs[1], "n1")
    answer = await logs[0].append(old, 2, b"late")
    assert (answer.committed, answer.term, answer.head, answer.standing) == (False, new, 1, None)
    assert await logs[0].head() == 1


async def test_g6_an_append_fails_after_the_term_ended_with_nobody_leading(logs: Logs) -> None:
    term = await lead(logs[0])
    await logs[0].resign(term)
    answer = await logs[0].append(term, 1, b"late")
    assert (answer.committed, answer.term) == (False, 0)


async def test_an_append_in_no_term_is_a_bug_not_a_commit(logs: Logs) -> None:
    with pytest.raises(Bug):
        await logs[0].append(0, 1, b"nobody leads")
    assert await logs[0].head() == 0


async def test_an_append_that_would_leave_a_hole_fails(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 2)
    answer = await logs[0].append(term, 4, b"hole")
    assert (answer.committed, answer.term, answer.head, answer.standing) == (False, term, 2, None)


async def test_an_append_at_a_taken_index_is_told_what_stands_there(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 3)
    answer = await logs[0].append(term, 2, b"other")
    assert (answer.committed, answer.head, answer.standing) == (False, 3, b"entry 2")


async def test_an_append_whose_answer_was_lost_is_committed_when_repeated(logs: Logs) -> None:
    term = await lead(logs[0])
    logs.lose_next_answer(0)
    with pytest.raises(LogUnavailable):
        await logs[0].append(term, 1, b"once")
    assert (await logs[0].append(term, 1, b"once")).committed
    assert await logs[0].head() == 1


async def test_a_repeated_append_is_committed_once_even_after_others_followed(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 3)
    assert (await logs[0].append(term, 1, b"entry 1")).committed
    assert await logs[0].head() == 3
    assert await first_few(logs[1].entries(1), 3) == [(n, b"entry %d" % n) for n in (1, 2, 3)]


async def test_a_repeated_append_is_recognised_by_a_deposed_leader(logs: Logs) -> None:
    old = await lead(logs[0], "n0")
    await append(logs[0], old, 1, 1)
    await lead(logs[1], "n1")
    assert (await logs[0].append(old, 1, b"entry 1")).committed


# ---------------------------------------------------------------------------------------------------- entries


async def test_a_reader_gets_history_and_then_what_comes(logs: Logs) -> None:
    term = await lead(logs[0])
    history = await append(logs[0], term, 1, 5)
    reader = logs[1].entries(1)
    assert [await anext(reader) for _ in range(5)] == history
    waiting = asyncio.ensure_future(anext(reader))
    live = await append(logs[0], term, 6, 4)
    assert [await waiting, *[await anext(reader) for _ in range(3)]] == live
    await reader.aclose()  # type: ignore[attr-defined]


async def test_a_reader_may_start_anywhere_and_before_there_is_anything(logs: Logs) -> None:
    early = asyncio.ensure_future(first_few(logs[1].entries(3), 2))
    term = await lead(logs[0])
    entries = await append(logs[0], term, 1, 4)
    assert await early == entries[2:]


async def test_several_readers_each_get_everything(logs: Logs) -> None:
    readers = [asyncio.ensure_future(first_few(logs[number].entries(1), 60)) for number in (0, 1, 1, 2)]
    term = await lead(logs[0])
    entries = await append(logs[0], term, 1, 60)
    for reader in readers:
        assert await reader == entries


async def test_a_long_history_is_read_to_its_end(logs: Logs) -> None:
    term = await lead(logs[0])
    entries = await append(logs[0], term, 1, 600)
    assert await first_few(logs[1].entries(1), 600) == entries


# ---------------------------------------------------------------------------------------------------- trimming


async def test_a_trimmed_log_begins_after_what_it_forgot(logs: Logs) -> None:
    assert await logs[0].first() == 1
    term = await lead(logs[0])
    entries = await append(logs[0], term, 1, 6)
    assert await logs[1].first() == 1
    await logs[0].trim(term, 4)
    assert (await logs[1].first(), await logs[1].head()) == (5, 6)
    assert await first_few(logs[1].entries(5), 2) == entries[4:]


async def test_who_asks_for_what_was_trimmed_is_told_so(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 6)
    await logs[0].trim(term, 4)
    for wanted in (1, 4):
        with pytest.raises(LogTrimmed) as told:
            await anext(logs[1].entries(wanted))
        assert told.value.first == wanted


async def test_a_reader_that_is_overtaken_by_trimming_is_told_so(logs: Logs) -> None:
    term = await lead(logs[0])
    entries = await append(logs[0], term, 1, 300)  # more than a page
    reader = logs[1].entries(1)
    got = [await anext(reader)]
    await logs[0].trim(term, 299)

    async def read_on() -> None:
        async for entry in reader:
            got.append(entry)

    with pytest.raises(LogTrimmed) as told:
        await read_on()
    assert got == entries[: told.value.first - 1]
    assert told.value.first < 300


async def test_a_reader_of_a_log_that_holds_nothing_at_all_does_not_wait_for_what_is_gone(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 3)
    await logs.forget_all(0)
    assert (await logs[1].head(), await logs[1].first()) == (3, 4)
    with pytest.raises(LogTrimmed):
        await asyncio.wait_for(anext(logs[1].entries(3)), 10)
    waiting = asyncio.ensure_future(first_few(logs[1].entries(4), 1))
    assert await append(logs[0], term, 4, 1) == await waiting


async def test_a_reader_that_has_read_all_is_not_disturbed_by_trimming(logs: Logs) -> None:
    term = await lead(logs[0])
    entries = await append(logs[0], term, 1, 5)
    reader = logs[1].entries(1)
    assert [await anext(reader) for _ in range(5)] == entries
    await logs[0].trim(term, 4)
    waiting = asyncio.ensure_future(anext(reader))
    assert await append(logs[0], term, 6, 1) == [await waiting]
    await reader.aclose()  # type: ignore[attr-defined]


async def test_g6_a_deposed_leader_trims_nothing(logs: Logs) -> None:
    old = await lead(logs[0], "n0")
    await append(logs[0], old, 1, 4)
    new = await lead(logs[1], "n1")
    await logs[0].trim(old, 2)
    assert await logs[0].first() == 1
    await logs[1].resign(new)
    await logs[1].trim(new, 2)
    assert await logs[0].first() == 1


async def test_the_newest_entry_always_stays(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 3)
    for beyond in (3, 4):
        with pytest.raises(Bug):
            await logs[0].trim(term, beyond)
    with pytest.raises(Bug):
        await logs[0].trim(0, 1)
    assert await logs[0].first() == 1


async def test_trimming_again_or_less_or_with_a_lost_answer_changes_nothing_more(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 1200)
    logs.lose_next_answer(0)
    with pytest.raises(LogUnavailable):
        await logs[0].trim(term, 1100)
    for through in (1100, 1100, 5, 0):
        await logs[0].trim(term, through)
        assert await logs[0].first() == 1101


async def test_appends_go_on_after_a_trim_and_a_repeated_one_is_recognised(logs: Logs) -> None:
    term = await lead(logs[0])
    await append(logs[0], term, 1, 3)
    await logs[0].trim(term, 2)
    logs.lose_next_answer(0)
    with pytest.raises(LogUnavailable):
        await logs[0].append(term, 4, b"entry 4")
    await logs[0].trim(term, 3)
    assert (await logs[0].append(term, 4, b"entry 4")).committed
    late = await logs[0].append(term, 2, b"entry 2")
    assert (late.committed, late.head, late.standing) == (False, 4, None)


async def test_tidying_changes_nothing_that_a_reader_sees(logs: Logs) -> None:
    term = await lead(logs[0])
    reader = logs[1].entries(1)
    entries = await append(logs[0], term, 1, 5)
    assert [await anext(reader) for _ in range(5)] == entries
    await logs[0].trim(term, 3)
    for _ in range(3):
        await logs[0].tidy(True)
        await logs[1].tidy(False)
    waiting = asyncio.ensure_future(anext(reader))
    (live,) = await append(logs[0], term, 6, 1)
    assert await waiting == live
    assert logs[0].problems() == []
    assert await logs[0].first() == 4
    await reader.aclose()  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- the leader


async def test_of_two_that_take_at_once_one_leads(logs: Logs) -> None:
    answers = await asyncio.gather(*[logs[number].take(f"n{number}", 0, "start") for number in range(3)])
    assert len({answer.node for answer in answers if answer}) == 1
    assert await logs[0].leader() == answers[0]


async def test_taking_what_has_changed_since_changes_nothing(logs: Logs) -> None:
    term = await lead(logs[0], "n0")
    assert await logs[1].take("n1", 0, "failover") == Leader("n0", term, "start")
    assert await logs[1].take("n1", term - 1, "failover") == Leader("n0", term, "start")


async def test_each_takeover_has_a_greater_term(logs: Logs) -> None:
    terms = [await lead(logs[number % 2], f"n{number % 2}") for number in range(4)]
    await logs[1].resign(terms[-1])
    terms.append(await lead(logs[0], "n0"))
    assert terms == sorted(set(terms))


async def test_a_takeover_whose_answer_was_lost_is_recognised_when_repeated(logs: Logs) -> None:
    logs.lose_next_answer(0)
    with pytest.raises(LogUnavailable):
        await logs[0].take("n0", 0, "start")
    standing = await logs[1].leader()
    assert await logs[0].take("n0", 0, "start") == standing
    assert standing is not None and standing.node == "n0"


async def test_leadership_is_handed_over_in_a_new_term(logs: Logs) -> None:
    term = await lead(logs[0], "n0")
    after = await logs[0].hand_over(term, "n1", "handover")
    assert after is not None and (after.node, after.reason) == ("n1", "handover") and after.term > term
    assert not (await logs[0].append(term, 1, b"late")).committed
    assert (await logs[1].append(after.term, 1, b"mine")).committed


async def test_only_the_present_term_can_be_handed_over(logs: Logs) -> None:
    old = await lead(logs[0], "n0")
    new = await lead(logs[1], "n1")
    assert await logs[0].hand_over(old, "n2", "handover") == Leader("n1", new, "start")
    with pytest.raises(Bug):
        await logs[0].hand_over(0, "n2", "handover")


async def test_only_the_present_term_can_be_resigned(logs: Logs) -> None:
    old = await lead(logs[0], "n0")
    new = await lead(logs[1], "n1")
    await logs[0].resign(old)
    assert await logs[0].leader() == Leader("n1", new, "start")
    await logs[1].resign(new)
    assert await logs[0].leader() is None
    await logs[1].resign(new)


async def test_who_watches_leaders_sees_the_present_one_and_every_later_newest(logs: Logs) -> None:
    leaders = logs[2].leaders()
    assert await anext(leaders) is None
    first = await lead(logs[0], "n0")
    assert await anext(leaders) == Leader("n0", first, "start")
    handed = await logs[0].hand_over(first, "n1", "handover")
    assert await anext(leaders) == handed
    assert handed is not None
    await logs[1].resign(handed.term)
    assert await anext(leaders) is None
    await leaders.aclose()  # type: ignore[attr-defined]
