"""Events of a real cluster: told on every node, without a gap after a break, and no longer than anybody listens."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from blake3 import blake3
from cluster import Demo, demo, eventually

from onefold.api.answers import Changed, Placed, Reset, Status
from onefold.client import Client
from onefold.client.events import Event

SECONDS = 20.0


@pytest.fixture
def clients(api: Demo, authority: ssl.SSLContext, secret: str) -> Iterator[dict[str, Client]]:
    """One for each node alone."""
    made = {name: Client(str(node.api.listen), secret, authority) for name, node in api.nodes.items()}
    yield made
    for client in made.values():
        client.close()


@contextmanager
def following(client: Client, since: int | None = None) -> Iterator[Iterator[Event]]:
    """The events from when this begins: the first status is awaited."""
    with closing(client.events(since)) as events:
        if since is None:
            assert isinstance(next(events), Status)
        yield events


def changed(events: Iterator[Event], path: str) -> Changed:
    """The next entry that changes `path`."""
    deadline = time.monotonic() + SECONDS
    for event in events:
        if isinstance(event, Changed) and any(change.path == path for change in event.changes):
            return event
        assert time.monotonic() < deadline
    raise AssertionError


def test_an_edit_is_told_on_every_node_with_what_it_made(api: Demo, clients: dict[str, Client]) -> None:
    with following(clients["node1"]) as leader, following(clients["node3"]) as follower:
        (api.folder("node1") / "über <b>").write_bytes(b"hello")
        for events in (leader, follower):
            event = changed(events, "über <b>")
            (change,) = event.changes
            assert (event.node, change.verb, change.kind, change.size) == ("node1", "created", "file", 5)
            assert change.href == "%C3%BCber%20%3Cb%3E"
            assert change.digest == blake3(b"hello").hexdigest()
            placed = next(e for e in events if isinstance(e, Placed) and e.index == event.index)
            assert 0 < placed.everywhere_ms < 10_000


def test_a_stream_that_was_away_goes_on_where_it_was(api: Demo, clients: dict[str, Client]) -> None:
    with following(clients["node2"]) as events:
        (api.folder("node1") / "before").write_bytes(b"1")
        since = changed(events, "before").index
    for number in range(5):
        (api.folder("node1") / f"while-away-{number}").write_bytes(b"1")
        api.wait()
    with following(clients["node3"], since) as events:
        indices = [changed(events, f"while-away-{number}").index for number in range(5)]
    assert indices == sorted(indices)
    assert indices[0] > since


def test_an_index_that_is_not_known_here_means_to_list_anew(clients: dict[str, Client]) -> None:
    newest = clients["node2"].status().nodes[0].applied
    for since in (0, 10**15):
        with following(clients["node2"], since) as events:
            if since:
                reset = next(events)
                assert isinstance(reset, Reset)
                assert reset.index >= (newest or 0)
            else:
                assert isinstance(next(events), Changed)  # the node was there from the first entry on


@pytest.mark.parametrize("since", ["x", "-1", "1e3", "١", "9" * 30])
def test_what_is_no_index_is_refused(asking: httpx.Client, since: str) -> None:
    assert asking.get("/v1/events", params={"since": since}).status_code == 400


def test_the_status_is_told_when_it_changed(api: Demo, clients: dict[str, Client]) -> None:
    with following(clients["node2"]) as events:
        (api.folder("node1") / "status-changes").write_bytes(b"1")
        index = changed(events, "status-changes").index
        statuses = (event for event in events if isinstance(event, Status))
        assert next(s for s in statuses if all((node.applied or 0) >= index for node in s.nodes))


def test_who_goes_is_not_followed_for_any_longer(asking: httpx.Client, clients: dict[str, Client]) -> None:
    def streams() -> float:
        lines = asking.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("onefold_event_streams")).split()[1])

    before = streams()
    with following(clients["node2"]):
        assert streams() == before + 1
    eventually(lambda: streams() == before)


def test_a_stream_ends_at_once_with_its_node_and_goes_on_at_another(tmp_path: Path) -> None:
    with demo(tmp_path / "data") as cluster:
        context = ssl.create_default_context(cafile=str(cluster.data / ".onefold" / "authority" / "ca.crt"))
        secret = (cluster.data / ".onefold" / "token").read_text().strip()
        addresses = [str(cluster.nodes[name].api.listen) for name in ("node2", "node3")]
        with Client(addresses, secret, context) as client, following(client) as events:
            (cluster.folder("node1") / "first").write_bytes(b"1")
            changed(events, "first")
            stopping = threading.Thread(target=cluster.stop_node, args=("node2",))
            since = time.monotonic()
            stopping.start()
            (cluster.folder("node1") / "second").write_bytes(b"1")
            event = changed(events, "second")
            stopping.join()
            took = time.monotonic() - since
            (cluster.folder("node1") / "third").write_bytes(b"1")
            assert changed(events, "third").index > event.index
            assert took < 10


def test_asking_for_the_headers_alone_has_an_end(asking: httpx.Client) -> None:
    assert asking.head("/v1/events").headers["content-type"].startswith("text/event-stream")
