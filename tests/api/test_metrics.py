"""Metrics and health of a real cluster of three: every metric of the table is told, and says what is so."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from cluster import Demo, demo, eventually
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from onefold.api.metric_table import METRICS
from onefold.api.metrics import documentation
from onefold.api.requests import OTHER


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(found: dict[str, Metric], name: str, suffix: str = "", **labels: str) -> float:
    """The one sample `name` with (at least) these labels."""
    samples = found[name].samples
    (of,) = (s.value for s in samples if s.name == name + suffix and labels.items() <= s.labels.items())
    return of


def ask(api: Demo, node: str, path: str, authority: ssl.SSLContext, secret: str) -> httpx.Response:
    address = api.nodes[node].api.listen
    return httpx.get(f"https://{address}{path}", verify=authority, headers={"Authorization": f"Bearer {secret}"})


def told(api: Demo, node: str, authority: ssl.SSLContext, secret: str) -> dict[str, Metric]:
    return families(ask(api, node, "/metrics", authority, secret).raise_for_status().text)


def test_every_metric_of_the_table_is_told_with_its_kind_and_labels(asking: httpx.Client) -> None:
    found = families(asking.get("/metrics").raise_for_status().text)
    assert {row.name.removesuffix("_total") for row in METRICS} <= found.keys()
    for row in METRICS:
        family = found[row.name.removesuffix("_total")]
        assert family.type == row.kind
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(row.labels), sample
    assert "process_resident_memory_bytes" in found


def test_an_edit_shows_in_commits_and_on_every_node(api: Demo, authority: ssl.SSLContext, secret: str) -> None:
    before = told(api, "node1", authority, secret)
    (api.folder("node1") / "measured").write_bytes(b"x" * 300_000)
    api.wait()
    eventually(lambda: value(told(api, "node1", authority, secret), "onefold_lag_entries", node="node3") == 0)
    after = told(api, "node1", authority, secret)
    for histogram in ("onefold_commit_seconds", "onefold_everywhere_seconds"):
        assert value(after, histogram, "_count") > value(before, histogram, "_count")
        assert value(after, histogram, "_sum") > value(before, histogram, "_sum")
        assert value(after, histogram, "_bucket", le="+Inf") == value(after, histogram, "_count")
    index = value(after, "onefold_applied_index", node="node1")
    assert index > value(before, "onefold_applied_index", node="node1")
    assert {s.value for s in after["onefold_in_place_index"].samples} == {index}
    assert {s.labels["node"] for s in after["onefold_in_place_index"].samples} == {"node1", "node2", "node3"}
    sent = value(after, "onefold_peer_bytes", "_total", direction="out")
    assert sent - value(before, "onefold_peer_bytes", "_total", direction="out") >= 600_000
    assert value(after, "onefold_leader", node="node1") == 1
    assert value(after, "onefold_leader", node="node2") == 0


def test_answers_are_counted_by_operation_and_strangers_make_no_series(asking: httpx.Client) -> None:
    def count(status: str, operation: str) -> float:
        samples = families(asking.get("/metrics").text)["onefold_api_requests"].samples
        return sum(s.value for s in samples if (s.labels["status"], s.labels["operation"]) == (status, operation))

    fine, lost = count("200", "/v1/status"), count("404", OTHER)
    asking.get("/v1/status")
    asking.get("/nothing/here")
    asking.request("MAKEUP", "/nothing/there")
    assert count("200", "/v1/status") == fine + 1
    assert count("404", OTHER) == lost + 2
    samples = families(asking.get("/metrics").text)["onefold_api_requests"].samples
    assert not any("nothing" in text or "MAKEUP" in text for s in samples for text in s.labels.values())


def test_metrics_are_for_those_who_may_read(api: Demo, authority: ssl.SSLContext) -> None:
    assert ask(api, "node1", "/metrics", authority, "wrong").status_code == 401


def test_health_needs_no_token_and_names_no_file(api: Demo, authority: ssl.SSLContext) -> None:
    for path, says in (
        ("/healthz", {"node": "node3"}),
        ("/readyz", {"node": "node3", "ready": True, "why": "", "problems": 0}),
    ):
        answer = httpx.get(f"https://{api.nodes['node3'].api.listen}{path}", verify=authority)
        assert (answer.status_code, answer.json()) == (200, says)


def test_a_node_without_a_majority_is_alive_and_not_ready(tmp_path: Path) -> None:
    with demo(tmp_path / "data") as own:
        context = ssl.create_default_context(cafile=str(own.data / ".onefold" / "authority" / "ca.crt"))
        own.kill_node("node1")
        own.kill_node("node2")
        address = own.nodes["node3"].api.listen

        def readiness() -> httpx.Response:
            return httpx.get(f"https://{address}/readyz", verify=context)

        eventually(lambda: readiness().status_code == 503)
        assert readiness().json()["why"] in (
            "it reaches nobody that leads",
            "edits wait, since the log does not take them",  # it leads itself
        )
        assert httpx.get(f"https://{address}/healthz", verify=context).status_code == 200


@pytest.mark.parametrize("kind", ["gauge", "counter", "histogram"])
def test_metrics_are_named_as_prometheus_wants_it(kind: str) -> None:
    names: Iterable[str] = [row.name for row in METRICS if row.kind == kind]
    assert names
    assert all(name.endswith("_total") == (kind == "counter") for name in names)
    assert all(name.endswith("_seconds") for name in names if kind == "histogram")


def test_the_page_about_metrics_is_that_of_the_table() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
    assert page.read_text() == documentation(), "run scripts/write_api_docs.py"
