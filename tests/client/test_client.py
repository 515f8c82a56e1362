"""The library for programs, against something that answers as a node would: what is sent, what comes back, and what
happens when a node fails."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from blake3 import blake3
from nodes import Answer, Asked, FakeNode, fake_node
from waiting import Waiting

from onefold import client as library
from onefold.api.answers import Changed, Placed, Reset
from onefold.client import Client
from onefold.errors import BadSetting, OperatorError

STATUS = Answer(200, {}, json.dumps({"node": "a", "leader": "b", "term": 3, "nodes": []}).encode())
WRITTEN = Answer(201, {}, b'{"path": "p", "href": "p", "version": 7, "index": 5, "digest": "00", "size": 3}')
Make = Callable[[Callable[[Asked], Answer]], FakeNode]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as opened:
        yield lambda answer: opened.enter_context(fake_node(tmp_path, answer))


@pytest.fixture(params=[Client, Waiting])
def ask(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Both clients: the one that is awaited, too."""
    with ExitStack() as opened:
        yield lambda *nodes: opened.enter_context(
            request.param(
                [node if isinstance(node, str) else node.address for node in nodes], "secret", tmp_path / "ca.crt"
            )
        )


def problem(status: int, **more: object) -> Answer:
    told = {"status": status, "title": "it did not work", "fix": "mend it", **more}
    return Answer(status, {"Retry-After": "2"}, json.dumps(told).encode())


def content(data: bytes, digest: str = "", cut: int = 0) -> Answer:
    headers = {"ETag": f'"{digest or blake3(data).hexdigest()}"', "Onefold-Version": "7", "Onefold-Index": "5"}
    return Answer(200, headers, data, cut)


def test_a_question_carries_the_token_and_its_answer_is_a_value(make: Make, ask: Callable[..., Client]) -> None:
    node = make(lambda asked: STATUS)
    status = ask(node).status()
    assert (status.node, status.leader, status.term, status.nodes) == ("a", "b", 3, ())
    (asked,) = node.asked
    assert (asked.method, asked.target) == ("GET", "/v1/status")
    assert asked.headers["authorization"] == "Bearer secret"


def test_a_node_that_is_down_is_passed_over_and_not_asked_first_again(make: Make, ask: Callable[..., Client]) -> None:
    node = make(lambda asked: STATUS)
    broken = make(lambda asked: Answer(0))
    asking = ask("127.0.0.1:1", broken, node)
    asking.status()
    asking.status()
    assert len(broken.asked) == 1
    assert len(node.asked) == 2


def test_when_no_node_answers_all_of_them_are_named(make: Make, ask: Callable[..., Client]) -> None:
    broken = make(lambda asked: Answer(0))
    with pytest.raises(library.Unreachable) as failed:
        ask("127.0.0.1:1", broken).status()
    assert "127.0.0.1:1" in failed.value.what
    assert broken.address in failed.value.what


def test_a_write_that_may_have_arrived_is_not_sent_to_another_node(make: Make, ask: Callable[..., Client]) -> None:
    broken, node = make(lambda asked: Answer(0)), make(lambda asked: WRITTEN)
    with pytest.raises(library.Unreachable):
        ask(broken, node).write("p", b"new")
    assert not node.asked


def test_a_write_goes_to_the_next_node_where_the_first_is_down_or_stands_by(
    make: Make, ask: Callable[..., Client]
) -> None:
    away, node = make(lambda asked: problem(503, away=True)), make(lambda asked: WRITTEN)
    assert ask("127.0.0.1:1", away, node).write("p", io.BytesIO(b"new")).version == 7
    assert away.asked[0].body == node.asked[0].body == b"new"


def test_a_write_whose_outcome_is_unknown_is_said_to_be(make: Make, ask: Callable[..., Client]) -> None:
    nobody_leads, node = make(lambda asked: problem(503)), make(lambda asked: WRITTEN)
    with pytest.raises(library.Unavailable) as failed:
        ask(nobody_leads, node).write("p", b"new")
    assert failed.value.retry_after == 2
    assert not node.asked


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, library.BadRequest),
        (401, library.Unauthorized),
        (403, library.Forbidden),
        (404, library.NotFound),
        (409, library.Conflict),
        (412, library.PreconditionFailed),
        (413, library.TooLarge),
        (416, library.BadRange),
        (429, library.TooManyRequests),
        (500, library.ServerFailed),
        (503, library.Unavailable),
    ],
)
def test_every_kind_of_error_is_an_exception_of_its_own(
    make: Make, ask: Callable[..., Client], status: int, kind: type[library.ClientError]
) -> None:
    with pytest.raises(library.ClientError) as failed:
        ask(make(lambda asked: problem(status))).status()
    assert type(failed.value) is kind
    assert (failed.value.status, failed.value.what, failed.value.fix) == (status, "it did not work", "mend it")


def test_an_answer_that_is_not_ours_is_named_as_such(make: Make, ask: Callable[..., Client]) -> None:
    with pytest.raises(library.BadAnswer):
        ask(make(lambda asked: Answer(200, {}, b"<html>"))).status()
    with pytest.raises(library.BadAnswer):
        ask(make(lambda asked: Answer(302, {"Location": "https://127.0.0.1:1/"}))).status()


def test_names_travel_as_percent_encoded_bytes(make: Make, ask: Callable[..., Client]) -> None:
    node = make(lambda asked: content(b"x"))
    asking = ask(node)
    asking.read("a b/ü?#%.txt")
    asking.read(b"\xff\xfe")
    assert [asked.target for asked in node.asked] == ["/v1/files/a%20b/%C3%BC%3F%23%25.txt", "/v1/files/%FF%FE"]


def test_what_is_written_may_be_bytes_a_file_or_parts(make: Make, ask: Callable[..., Client], tmp_path: Path) -> None:
    node = make(lambda asked: WRITTEN)
    asking = ask(node)
    file = tmp_path / "content"
    file.write_bytes(b"new" * 500_000)
    asking.write("p", b"new", mode=0o640, mtime_ns=5)
    asking.write("p", file, if_match="ab")
    with file.open("rb") as opened:
        opened.seek(3)
        asking.write("p", opened, if_match="*")
    asking.write("p", iter((b"n", b"ew")), if_absent=True)
    first, named, opened_file, parts = node.asked
    assert (first.target, first.body) == ("/v1/files/p?mode=640&mtime_ns=5", b"new")
    assert (named.body, named.headers["if-match"]) == (b"new" * 500_000, '"ab"')
    assert (opened_file.body, opened_file.headers["if-match"]) == (b"new" * 499_999, "*")
    assert (parts.body, parts.headers["if-none-match"]) == (b"new", "*")
    assert parts.headers["transfer-encoding"] == "chunked"


def test_a_content_that_is_not_what_its_digest_says_is_refused(
    make: Make, ask: Callable[..., Client], tmp_path: Path
) -> None:
    asking = ask(make(lambda asked: content(b"rotten", blake3(b"fresh").hexdigest())))
    to = tmp_path / "to"
    to.write_bytes(b"old")
    with pytest.raises(library.BadAnswer):
        asking.read("p")
    with pytest.raises(library.BadAnswer):
        asking.download("p", to)
    assert to.read_bytes() == b"old"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("to.")]


def test_a_content_that_breaks_off_is_no_content(make: Make, ask: Callable[..., Client], tmp_path: Path) -> None:
    asking = ask(make(lambda asked: content(b"all of it", cut=3)))
    with pytest.raises(library.Unreachable):
        asking.read("p")


def test_a_file_is_downloaded_whole(make: Make, ask: Callable[..., Client], tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    facts = ask(make(lambda asked: content(data))).download("p", tmp_path / "to")
    assert (tmp_path / "to").read_bytes() == data
    assert (facts.size, facts.version, facts.index) == (len(data), 7, 5)


def test_a_range_says_where_it_begins(make: Make, ask: Callable[..., Client]) -> None:
    headers = {**content(b"").headers, "Content-Range": "bytes 2-4/10"}
    node = make(lambda asked: Answer(206, headers, b"cde"))
    with ask(node).open("p", 2, 4, if_range="ab") as arriving:
        assert b"".join(arriving) == b"cde"
    assert (arriving.facts.first, arriving.facts.size, arriving.whole) == (2, 10, False)
    assert (node.asked[0].headers["range"], node.asked[0].headers["if-range"]) == ("bytes=2-4", '"ab"')


def test_a_long_directory_comes_in_pages(make: Make, ask: Callable[..., Client]) -> None:
    def page(asked: Asked) -> Answer:
        name = "b%26" if "after=" in asked.target else "a"
        entry = {"name": name, "href": name, "kind": "file", "size": 0, "mode": 0, "mtime_ns": 0, "digest": None}
        entry |= {"target": None, "version": 1, "id": 1}
        told = {"path": "", "href": "", "index": 1, "entries": [entry], "next": "a%26" if name == "a" else None}
        return Answer(200, {}, json.dumps(told).encode())

    node = make(page)
    assert [entry.href for entry in ask(node).list()] == ["a", "b%26"]
    assert node.asked[1].target == "/v1/list/?limit=1000&after=a%26"


def test_a_node_with_a_certificate_of_somebody_else_is_not_asked(make: Make, tmp_path: Path) -> None:
    node = make(lambda asked: STATUS)
    with Client(node.address, "secret") as asking, pytest.raises(library.Unreachable, match="certificate"):
        asking.status()
    assert not node.asked


@pytest.mark.parametrize("address", ["http://127.0.0.1:7404", "127.0.0.1", "", "https://a:1/path", []])
def test_an_address_that_can_be_none_is_refused(address: str) -> None:
    with pytest.raises(BadSetting):
        Client(address, "secret")


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="nothing"):
        Client("127.0.0.1:1", "secret", tmp_path / "nothing.crt")


def sse(*blocks: str) -> Answer:
    return Answer(200, {"Content-Type": "text/event-stream"}, "".join(f"{block}\n\n" for block in blocks).encode())


def test_events_go_on_where_they_broke_off_at_another_node(
    make: Make, ask: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onefold.client.events.RETRY_SECONDS_MIN", 0.01)
    begun = [sse("retry: 1\nid: 4", ":", 'event: placed\ndata: {"index": 4, "everywhere_ms": 1.5}')]
    told = [
        'event: change\nid: 5\ndata: {"index": 5, "node": "a", "changes": []}',
        "event: of a later version\nid: 6\ndata: {}",
    ]
    reset = 'event: reset\nid: 9\ndata: {"index": 9}'
    first = make(lambda asked: begun.pop() if begun else Answer(0))
    second = make(lambda asked: sse(*told) if "since=4" in asked.target else sse(reset))
    with closing(ask(first, second).events()) as events:
        assert [next(events), next(events), next(events)] == [Placed(4, 1.5), Changed(5, "a", ()), Reset(9)]
    assert [asked.target for asked in first.asked] == ["/v1/events", "/v1/events?since=4"]
    assert [asked.target for asked in second.asked] == ["/v1/events?since=4", "/v1/events?since=6"]


def test_events_that_no_node_tells_end_once_patience_is_over(
    make: Make, ask: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onefold.client.events.RETRY_SECONDS_MIN", 0.01)
    answers = [sse("id: 4", 'event: reset\nid: 4\ndata: {"index": 4}')]
    node = make(lambda asked: answers.pop() if answers else Answer(0))
    events = ask(node).events(patience=0.05)
    assert next(events) == Reset(4)
    with pytest.raises(library.Unreachable):
        next(events)
    assert len(node.asked) > 2
    with pytest.raises(library.Unreachable):
        next(ask(node).events())  # it never worked: no patience


@pytest.mark.parametrize(
    "block", ["event: change\ndata: {", "event: change", 'event: reset\nid: x\ndata: {"index": 1}']
)
def test_events_that_make_no_sense_are_named_as_such(make: Make, ask: Callable[..., Client], block: str) -> None:
    with pytest.raises(library.BadAnswer):
        next(ask(make(lambda asked: sse(block))).events())


def test_what_is_written_may_come_asynchronously(make: Make, tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"n"
        yield b"ew"

    node = make(lambda asked: WRITTEN)
    with Waiting([node.address], "secret", tmp_path / "ca.crt") as asking:
        asking.write("p", parts())
    assert node.asked[0].body == b"new"
    with Client(node.address, "secret", tmp_path / "ca.crt") as asking, pytest.raises(BadSetting, match="AsyncClient"):
        asking.write("p", parts())


def test_both_clients_can_do_the_same() -> None:
    def of(kind: type) -> dict[str, object]:
        signatures = {}
        for name, method in vars(kind).items():
            if not name.startswith("_"):
                signatures[name] = str(inspect.signature(method)).partition(" ->")[0]
        return signatures

    assert of(Client) == of(library.AsyncClient)
