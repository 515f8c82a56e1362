"""The API of a real cluster of three: who is let in, how errors read, and what it says and does about the cluster."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest
from cluster import Demo, demo


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("api") / "data") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def stranger(running: Demo) -> Iterator[httpx.Client]:
    """Somebody without a token, who knows the authority."""
    authority = ssl.create_default_context(cafile=str(running.data / ".onefold" / "authority" / "ca.crt"))
    with httpx.Client(base_url=f"https://{running.nodes['node2'].api.listen}", verify=authority) as client:
        yield client


@pytest.fixture
def admin(running: Demo, stranger: httpx.Client) -> Iterator[httpx.Client]:
    stranger.headers["Authorization"] = f"Bearer {(running.data / '.onefold' / 'token').read_text().strip()}"
    yield stranger
    del stranger.headers["Authorization"]


def test_the_status_names_every_node_and_who_answers(admin: httpx.Client) -> None:
    told = admin.get("/v1/status").raise_for_status().json()
    assert told["node"] == "node2"
    assert told["leader"] == "node1"
    assert [node["name"] for node in told["nodes"]] == ["node1", "node2", "node3"]
    assert {node["role"] for node in told["nodes"]} == {"leader", "voter"}


def test_without_a_token_nothing_is_told(stranger: httpx.Client) -> None:
    answer = stranger.get("/v1/status")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="onefold"'
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["title"] == "a token is missing"


def test_what_the_api_does_not_have_is_named(stranger: httpx.Client) -> None:
    answer = stranger.get("/v1/stauts")
    assert answer.status_code == 404
    assert answer.json() == {
        "status": 404,
        "title": "there is no /v1/stauts in this API",
        "fix": "see /v1/openapi.json",
    }
    assert stranger.delete("/v1/status").status_code == 405


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b"{}", "missing required field `node`"),
        (b'{"node": 1}', "Expected `str`, got `int`"),
        (b'{"node": "x", "more": 1}', "unknown field `more`"),
    ],
)
def test_a_body_that_is_not_as_it_must_be_is_refused(admin: httpx.Client, body: bytes, says: str) -> None:
    answer = admin.post("/v1/leader", content=body)
    assert answer.status_code == 400
    assert says in answer.json()["title"]


def test_leadership_is_moved_through_any_node(admin: httpx.Client) -> None:
    for name in ("node3", "node1"):
        assert admin.post("/v1/leader", json={"node": name}).raise_for_status().json()["leader"] == name
    answer = admin.post("/v1/leader", json={"node": "node9"})
    assert answer.status_code in (400, 409)
    assert answer.json()["title"] == "node9 is not a voter"


def test_what_nobody_asks_about_is_confirmed_at_any_node_and_removes_nothing(admin: httpx.Client) -> None:
    for asked, node in (({}, "node2"), ({"node": "node2"}, "node2"), ({"node": "node3"}, "node3")):
        told = admin.post("/v1/confirm", json=asked).raise_for_status().json()
        assert told == {"node": node, "removals": 0}
    answer = admin.post("/v1/confirm", json={"node": "node9"})
    assert answer.status_code == 404
    assert answer.json()["title"] == "there is no node 'node9'"


def test_all_members_are_told_with_where_their_api_is(admin: httpx.Client, running: Demo) -> None:
    told = {member["name"]: member for member in admin.get("/v1/members").raise_for_status().json()["members"]}
    assert told.keys() == running.nodes.keys()
    assert all(member["live"] and member["voter"] for member in told.values())
    assert told["node2"]["api"] == str(running.nodes["node2"].api.listen)
