"""Files through the API of a real cluster of three: read, written, listed, moved, removed; their past, and strays."""

from __future__ import annotations

import concurrent.futures
import os
import ssl
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote_from_bytes

import httpx
import pytest
from blake3 import blake3
from cluster import Demo, demo

LARGE = 3 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("files") / "data") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def clients(running: Demo) -> Iterator[dict[str, httpx.Client]]:
    """An administrator at each node."""
    authority = ssl.create_default_context(cafile=str(running.data / ".onefold" / "authority" / "ca.crt"))
    token = (running.data / ".onefold" / "token").read_text().strip()
    made = {
        name: httpx.Client(
            base_url=f"https://{config.api.listen}", verify=authority, headers={"Authorization": f"Bearer {token}"}
        )
        for name, config in running.nodes.items()
    }
    yield made
    for client in made.values():
        client.close()


@pytest.fixture
def leader(clients: dict[str, httpx.Client]) -> httpx.Client:
    return clients["node1"]


@pytest.fixture(params=["node1", "node2"])
def client(clients: dict[str, httpx.Client], request: pytest.FixtureRequest) -> httpx.Client:
    """Of the leader, and of one that does not lead."""
    return clients[request.param]


@pytest.fixture
def here(request: pytest.FixtureRequest) -> str:
    """A directory of the test's own."""
    return f"t{abs(hash(request.node.name)) % 10**8}"


def tag(data: bytes) -> str:
    return f'"{blake3(data).hexdigest()}"'


def eventually(holds: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def read(client: httpx.Client, path: str) -> bytes:
    return client.get(f"/v1/files/{path}?consistency=linearizable").raise_for_status().content


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    return str(told["title"])


# ------------------------------------------------------------------------------------------------ writing and reading


def test_what_is_written_through_any_node_is_everywhere(
    running: Demo, clients: dict[str, httpx.Client], client: httpx.Client, here: str
) -> None:
    answer = client.put(f"/v1/files/{here}/x/a.txt?mode=640&mtime_ns=1000000000", content=b"one")
    assert answer.status_code == 201
    told = answer.json()
    assert (told["path"], told["href"], told["size"]) == (f"{here}/x/a.txt", f"{here}/x/a.txt", 3)
    assert answer.headers["ETag"] == tag(b"one") == f'"{told["digest"]}"'
    for each in clients.values():
        assert read(each, f"{here}/x/a.txt") == b"one"
    for config in running.nodes.values():
        file = config.folder / here / "x" / "a.txt"
        eventually(lambda file=file: file.exists() and file.read_bytes() == b"one")
        assert (file.stat().st_mode & 0o777, file.stat().st_mtime_ns) == (0o640, 10**9)
    again = client.put(f"/v1/files/{here}/x/a.txt", content=b"two")
    assert again.status_code == 200
    assert again.json()["index"] > told["index"]
    assert read(client, f"{here}/x/a.txt") == b"two"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, LARGE])
def test_contents_of_any_size_come_back_as_they_were(clients: dict[str, httpx.Client], here: str, size: int) -> None:
    data = os.urandom(size)
    answer = clients["node2"].put(f"/v1/files/{here}/big{size}", content=data, timeout=30).raise_for_status()
    assert answer.json()["size"] == size
    for client in clients.values():
        assert read(client, f"{here}/big{size}") == data
    eventually(lambda: read(clients["node3"], f"{here}/big{size}") == data)


def test_a_body_without_a_length_is_taken(leader: httpx.Client, here: str) -> None:
    parts = [b"x" * 100_000] * 30
    leader.put(f"/v1/files/{here}/stream", content=iter(parts)).raise_for_status()
    assert read(leader, f"{here}/stream") == b"".join(parts)


def test_parts_of_a_file(leader: httpx.Client, here: str) -> None:
    url = f"/v1/files/{here}/a"
    leader.put(url, content=b"0123456789").raise_for_status()
    for wanted, part, told in (
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ):
        answer = leader.get(url, headers={"Range": wanted})
        assert (answer.status_code, answer.content, answer.headers["Content-Range"]) == (206, part, told)
    for ignored in ("bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=-"):
        answer = leader.get(url, headers={"Range": ignored})
        assert (answer.status_code, answer.content) == (200, b"0123456789")
    answer = leader.get(url, headers={"Range": "bytes=10-"})
    problem(answer, 416)
    assert answer.headers["Content-Range"] == "bytes */10"
    for still, status in ((tag(b"0123456789"), 206), (tag(b"other"), 200)):
        assert leader.get(url, headers={"Range": "bytes=0-1", "If-Range": still}).status_code == status


def test_what_is_read_can_only_be_saved_by_a_browser_and_tells_its_version(leader: httpx.Client, here: str) -> None:
    done = leader.put(f"/v1/files/{here}/a.html", content=b"<script>").raise_for_status().json()
    for answer in (leader.get(f"/v1/files/{here}/a.html"), leader.head(f"/v1/files/{here}/a.html")):
        headers = answer.headers
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''a.html"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert headers["Content-Length"] == "8"
        assert headers["ETag"] == tag(b"<script>")
        assert int(headers["Onefold-Version"]) == done["version"]
        assert int(headers["Onefold-Index"]) >= done["index"]
    assert leader.head(f"/v1/files/{here}/a.html").content == b""


def test_who_has_it_already_is_told_so(leader: httpx.Client, here: str) -> None:
    url = f"/v1/files/{here}/a"
    leader.put(url, content=b"one").raise_for_status()
    for known in (tag(b"one"), f"W/{tag(b'one')}", "*", f"{tag(b'x')}, {tag(b'one')}"):
        answer = leader.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    assert leader.get(url, headers={"If-None-Match": tag(b"two")}).content == b"one"
    problem(leader.get(url, headers={"If-Match": tag(b"two")}), 412)


@pytest.mark.parametrize(
    "name", [b"a b", "ü.txt".encode(), b"\xff\xfe", b"new\nline", b"100%25", b"?#&+", b'"quoted"', b"C:\\x"]
)
def test_names_are_bytes(running: Demo, client: httpx.Client, here: str, name: bytes) -> None:
    path = f"{here}/".encode() + name
    url = "/v1/files/" + quote_from_bytes(path)
    told = client.put(url, content=name).raise_for_status().json()
    assert told["href"] == quote_from_bytes(path)
    assert read(client, told["href"]) == name
    listed = client.get(f"/v1/list/{here}").raise_for_status().json()["entries"]
    assert told["href"] in [entry["href"] for entry in listed]
    moved = told["href"] + "2"
    client.post("/v1/move", json={"from": told["href"], "to": moved}).raise_for_status()
    assert read(client, moved) == name
    client.delete(f"/v1/files/{moved}").raise_for_status()
    problem(client.get(f"/v1/files/{moved}"), 404)


# ------------------------------------------------------------------------------------------------ conditions


def test_a_write_with_a_condition_changes_nothing_unless_it_holds(client: httpx.Client, here: str) -> None:
    url = f"/v1/files/{here}/a"
    problem(client.put(url, content=b"one", headers={"If-Match": "*"}), 412)
    assert client.put(url, content=b"one", headers={"If-None-Match": "*"}).status_code == 201
    problem(client.put(url, content=b"two", headers={"If-None-Match": "*"}), 412)
    problem(client.put(url, content=b"two", headers={"If-Match": tag(b"no")}), 412)
    problem(client.put(url, content=b"two", headers={"If-Match": f"W/{tag(b'one')}"}), 412)
    assert read(client, f"{here}/a") == b"one"
    client.put(url, content=b"two", headers={"If-Match": f"{tag(b'no')}, {tag(b'one')}"}).raise_for_status()
    problem(client.delete(url, headers={"If-Match": tag(b"one")}), 412)
    asked = {"from": f"{here}/a", "to": f"{here}/b", "if_match": blake3(b"one").hexdigest()}
    problem(client.post("/v1/move", json=asked), 412)
    client.post("/v1/move", json={**asked, "if_match": tag(b"two")}).raise_for_status()
    client.delete(f"/v1/files/{here}/b", headers={"If-Match": tag(b"two")}).raise_for_status()


def test_increments_from_all_nodes_at_once_are_all_counted(clients: dict[str, httpx.Client], here: str) -> None:
    url = f"/v1/files/{here}/n"
    clients["node1"].put(url, content=b"0").raise_for_status()

    def count(client: httpx.Client) -> int:
        counted = 0
        while counted < 5:
            old = client.get(url + "?consistency=linearizable").raise_for_status()
            new = b"%d" % (int(old.content) + 1)
            answer = client.put(url, content=new, headers={"If-Match": old.headers["ETag"]})
            assert answer.status_code in (200, 412)
            counted += answer.status_code == 200
        return counted

    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert list(pool.map(count, clients.values())) == [5, 5, 5]
    assert read(clients["node3"], f"{here}/n") == b"15"


def test_of_many_who_create_the_same_file_one_is_told_that_it_did(clients: dict[str, httpx.Client], here: str) -> None:
    def take(client: httpx.Client) -> int:
        return client.put(f"/v1/files/{here}/lock", content=b"", headers={"If-None-Match": "*"}).status_code

    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert sorted(pool.map(take, clients.values())) == [201, 412, 412]


# ------------------------------------------------------------------------------------------------ directories


def test_a_directory_is_listed_page_by_page(client: httpx.Client, here: str) -> None:
    assert client.put(f"/v1/directories/{here}/d/sub?mode=750").status_code == 201
    assert client.put(f"/v1/directories/{here}/d/sub").status_code == 200
    for name in ("a", "b", "c%2B"):
        client.put(f"/v1/files/{here}/d/{name}", content=name.encode()).raise_for_status()
    listed = client.get(f"/v1/list/{here}/d").raise_for_status().json()
    assert [entry["name"] for entry in listed["entries"]] == ["a", "b", "c+", "sub"]
    assert [entry["kind"] for entry in listed["entries"]] == ["file", "file", "file", "directory"]
    assert (listed["next"], listed["path"]) == (None, f"{here}/d")
    entry = listed["entries"][0]
    assert (entry["size"], entry["mode"], entry["digest"]) == (1, 0o644, blake3(b"a").hexdigest())
    assert listed["entries"][3]["mode"] == 0o750
    names, after = [], ""
    while True:
        page = client.get(f"/v1/list/{here}/d?limit=1" + (f"&after={after}" if after else "")).json()
        names += [entry["name"] for entry in page["entries"]]
        after = page["next"]
        if after is None:
            break
    assert names == ["a", "b", "c+", "sub"]
    assert here in [entry["name"] for entry in client.get("/v1/list/").json()["entries"]]
    problem(client.get(f"/v1/list/{here}/none"), 404)
    problem(client.get(f"/v1/list/{here}/d/a"), 404)


def test_trees_are_moved_and_removed(running: Demo, client: httpx.Client, here: str) -> None:
    for number in range(5):
        client.put(f"/v1/files/{here}/d/e/{number}", content=b"%d" % number).raise_for_status()
    client.post("/v1/move", json={"from": f"{here}/d", "to": f"{here}/new/f"}).raise_for_status()
    assert read(client, f"{here}/new/f/e/3") == b"3"
    problem(client.post("/v1/move", json={"from": f"{here}/new", "to": f"{here}/new/f/x"}), 409)
    problem(client.post("/v1/move", json={"from": f"{here}/new/f/e/1", "to": f"{here}/new/f/e/2"}), 409)
    problem(client.delete(f"/v1/files/{here}/new"), 409)
    client.delete(f"/v1/files/{here}/new?recursive=true").raise_for_status()
    problem(client.get(f"/v1/list/{here}/new"), 404)
    problem(client.delete(f"/v1/files/{here}/new?recursive=true"), 404)
    for config in running.nodes.values():
        eventually(lambda config=config: not (config.folder / here / "new").exists())


def test_what_is_no_file_is_not_read_and_not_written_as_one(running: Demo, leader: httpx.Client, here: str) -> None:
    leader.put(f"/v1/directories/{here}").raise_for_status()
    eventually((running.nodes["node1"].folder / here).is_dir)
    os.symlink("elsewhere", running.nodes["node1"].folder / here / "link")
    eventually(lambda: leader.get(f"/v1/files/{here}/link").status_code == 409)
    assert "symbolic link to elsewhere" in problem(leader.get(f"/v1/files/{here}/link"), 409)
    entry = leader.get(f"/v1/list/{here}").json()["entries"][0]
    assert (entry["kind"], entry["target"], entry["digest"]) == ("symlink", "elsewhere", None)
    problem(leader.get(f"/v1/files/{here}"), 409)
    problem(leader.put(f"/v1/files/{here}", content=b"x"), 409)
    leader.put(f"/v1/files/{here}/link", content=b"a file now").raise_for_status()
    assert read(leader, f"{here}/link") == b"a file now"
    problem(leader.put(f"/v1/files/{here}/link/x", content=b"x"), 409)
    problem(leader.put(f"/v1/directories/{here}/link"), 409)


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("PUT", "/v1/files/", 400),
        ("PUT", "/v1/files/.onefold/x", 400),
        ("PUT", "/v1/files/a%2F..%2Fb", 400),
        ("PUT", "/v1/files/a%00b", 400),
        ("PUT", "/v1/files/" + "n" * 256, 400),
        ("PUT", "/v1/files/a?mode=888", 400),
        ("PUT", "/v1/files/a?mtime_ns=1e3", 400),
        ("PUT", "/v1/files/a?mtime_ns=99999999999999999999", 400),
        ("DELETE", "/v1/files/a?recursive=yes", 400),
        ("DELETE", "/v1/files/", 400),
        ("GET", "/v1/list/?limit=0", 400),
        ("GET", "/v1/files/a?consistency=strong", 400),
        ("GET", "/v1/history?limit=x", 400),
        ("GET", "/v1/history/none", 404),
        ("GET", "/v1/files/none", 404),
        ("GET", "/v1/strays/node9/1-1", 404),
        ("GET", "/v1/strays/node1/..%2f..", 404),
        ("GET", "/v1/strays/node2/1-1", 404),
        ("DELETE", "/v1/strays/node3/1-1", 404),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(
    leader: httpx.Client, method: str, url: str, status: int
) -> None:
    assert problem(leader.request(method, url, content=b"x" if method == "PUT" else None), status)


def test_odd_conditions_are_refused(leader: httpx.Client, here: str) -> None:
    for headers in ({"If-Match": "x"}, {"If-None-Match": tag(b"x")}, {"If-Match": "*", "If-None-Match": "*"}):
        problem(leader.put(f"/v1/files/{here}/a", content=b"x", headers=headers), 400)


# ------------------------------------------------------------------------------------------------ the past, and strays


def test_the_past_of_a_path_follows_what_was_there(clients: dict[str, httpx.Client], here: str) -> None:
    client = clients["node2"]
    client.put(f"/v1/files/{here}/a", content=b"one").raise_for_status()
    client.put(f"/v1/files/{here}/a", content=b"three").raise_for_status()
    client.post("/v1/move", json={"from": f"{here}/a", "to": f"{here}/b"}).raise_for_status()
    client.delete(f"/v1/files/{here}/b").raise_for_status()
    for path in ("a", "b"):
        changes = client.get(f"/v1/history/{here}/{path}").raise_for_status().json()["changes"]
        assert [(c["verb"], c["path"], c["size"]) for c in changes] == [
            ("removed", f"{here}/b", None),
            ("moved", f"{here}/b", 5),
            ("edited", f"{here}/a", 5),
            ("created", f"{here}/a", 3),
        ]
        assert {c["node"] for c in changes} == {"node2"}
    older = client.get(f"/v1/history/{here}/b?before={changes[1]['version']}&limit=1").json()["changes"]
    assert [c["verb"] for c in older] == ["edited"]
    newest = clients["node2"].get("/v1/history?limit=2").json()["changes"]
    assert [c["verb"] for c in newest] == ["removed", "moved"]


def test_strays_of_all_nodes_are_seen_restored_and_dropped(
    running: Demo, clients: dict[str, httpx.Client], here: str
) -> None:
    leader = clients["node1"]
    leader.put(f"/v1/files/{here}/a", content=b"committed").raise_for_status()
    follower = running.nodes["node2"].folder / here
    eventually(lambda: (follower / "a").exists())
    (follower / "a").write_bytes(b"an edit where none may be")
    (follower / "new").write_bytes(b"new where nothing may be")

    def of_this() -> list[dict[str, str]]:
        strays = leader.get("/v1/strays").raise_for_status().json()
        assert strays["missing"] == []
        return [stray for stray in strays["strays"] if stray["path"].startswith(here)]

    eventually(lambda: len(of_this()) == 2)
    found = {stray["path"]: stray for stray in of_this()}
    edit, new = found[f"{here}/a"], found[f"{here}/new"]
    assert {edit["node"], new["node"]} == {"node2"}
    answer = clients["node3"].get(f"/v1/strays/node2/{edit['id']}").raise_for_status()
    assert answer.content == b"an edit where none may be"
    assert "attachment" in answer.headers["Content-Disposition"]
    to = {"to": f"{here}/elsewhere/b"}
    restored = clients["node3"].post(f"/v1/strays/node2/{edit['id']}/restore", json=to).raise_for_status().json()
    assert (restored["path"], restored["size"]) == (f"{here}/elsewhere/b", 25)
    assert read(leader, f"{here}/elsewhere/b") == b"an edit where none may be"
    assert read(leader, f"{here}/a") == b"committed"
    problem(leader.post(f"/v1/strays/node2/{new['id']}/restore", json={"to": f"{here}/a/x"}), 409)
    assert leader.delete(f"/v1/strays/node2/{new['id']}").status_code == 204
    assert of_this() == []
    problem(leader.get(f"/v1/strays/node2/{new['id']}"), 404)


def test_who_may_only_read_does_not_write(running: Demo, here: str, clients: dict[str, httpx.Client]) -> None:
    with httpx.Client(base_url=clients["node1"].base_url, verify=False) as stranger:
        for method, url in (("GET", "/v1/list/"), ("PUT", f"/v1/files/{here}"), ("DELETE", f"/v1/files/{here}")):
            problem(stranger.request(method, url), 401)


def test_an_encoded_slash_before_the_path_does_not_shift_it(leader: httpx.Client, here: str) -> None:
    leader.put(f"/v1/files/{here}", content=b"1").raise_for_status()
    for prefix in ("v1%2Ffiles/x", "v1/files%2Fx", "%76%31/files", "v1/list%2Fx"):
        assert leader.get(f"/{prefix}/{here}").status_code == 404
    assert leader.delete(f"/v1%2Ffiles/x/{here}").status_code == 404
    assert leader.get(f"/v1/files/{here}").content == b"1"
