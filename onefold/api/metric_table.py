"""The table of metrics, from which the answer to Prometheus and `docs/metrics.md` are made.

Each node tells what it knows of all nodes, so that one that is up is enough to see which one lags. Nothing is labelled
with what users name or strangers send: the number of series depends on that of nodes and operations alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from onefold import __version__
from onefold.api.health import ready
from onefold.api.service import Service
from onefold.core.messages import Report
from onefold.node.loop import Node
from onefold.node.measure import Timings


class Look(NamedTuple):
    """What the metrics of one answer are read from. `reports` are those of the nodes that answer; while this node
    stands by, `node` is None."""

    service: Service
    node: Node | None
    reports: dict[str, Report]


Sample = tuple[tuple[str, ...], float | Timings]
"""The values of the labels, and what was measured."""
Read = Callable[[Look], Iterable[Sample]]


class Row(NamedTuple):
    """One metric. `kind`: gauge, counter or histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Read


def _each(value: Callable[[Report], float]) -> Read:
    """One sample for each node that answers."""
    return lambda look: [((name,), value(report)) for name, report in look.reports.items()]


def _own(value: Callable[[Node], float | Timings]) -> Read:
    """Of this node's own loop; nothing while it stands by."""
    return lambda look: [] if look.node is None else [((), value(look.node))]


def _up(look: Look) -> Iterator[Sample]:
    names = {member.name for member in look.service.config.members} | look.reports.keys()
    return (((name,), float(name in look.reports)) for name in sorted(names))


def _lag(look: Look) -> Iterator[Sample]:
    newest = max((report.applied for report in look.reports.values()), default=0)
    return (((name,), newest - report.in_place) for name, report in look.reports.items())


def _queues(look: Look) -> Iterator[Sample]:
    if look.node is not None:
        yield ("look",), look.node.proposer.waiting
        yield ("append",), look.node.appender.waiting
        yield ("place",), look.node.placer.waiting
        yield ("fetch",), len(look.node.fetcher)


def _peer_bytes(look: Look) -> Iterator[Sample]:
    if look.node is not None:
        yield ("in",), look.node.traffic.received
        yield ("out",), look.node.traffic.sent


def _api_bytes(look: Look) -> Iterator[Sample]:
    yield ("in",), look.service.requests.received
    yield ("out",), look.service.requests.sent


def _answers(look: Look) -> Iterator[Sample]:
    for (method, operation, status), count in look.service.requests.answers.items():
        yield (method, operation, str(status)), count


def _answer_times(look: Look) -> Iterator[Sample]:
    return (((operation,), timings) for operation, timings in look.service.requests.timings.items())


METRICS = (
    Row(
        "onefold_info",
        "gauge",
        ("node", "version"),
        "Always 1: who answers.",
        lambda look: [((look.service.config.name, __version__), 1)],
    ),
    Row(
        "onefold_ready",
        "gauge",
        (),
        "1 when this node follows the cluster and its folder can be relied on (`/readyz`).",
        lambda look: [((), float(ready(look.service).ready))],
    ),
    Row("onefold_node_up", "gauge", ("node",), "1 for each member that this node is connected with, and itself.", _up),
    Row(
        "onefold_leader",
        "gauge",
        ("node",),
        "1 for the node that leads, by its own word.",
        _each(lambda report: float(report.role == "leader")),
    ),
    Row(
        "onefold_term",
        "gauge",
        ("node",),
        "The term that the node follows; it grows with each change of leader.",
        _each(lambda report: report.term),
    ),
    Row(
        "onefold_applied_index",
        "gauge",
        ("node",),
        "The newest entry of the log that is in the node's catalogue.",
        _each(lambda report: report.applied),
    ),
    Row(
        "onefold_in_place_index",
        "gauge",
        ("node",),
        "Up to which entry the node's folder is what the catalogue says, but for named problems.",
        _each(lambda report: report.in_place),
    ),
    Row(
        "onefold_durable_index",
        "gauge",
        ("node",),
        "Up to which entry the node's disks have all of it for good.",
        _each(lambda report: report.durable),
    ),
    Row(
        "onefold_lag_entries",
        "gauge",
        ("node",),
        "How many entries the node's folder is behind the newest one that any node has applied.",
        _lag,
    ),
    Row(
        "onefold_files", "gauge", ("node",), "Files and symlinks in the catalogue.", _each(lambda report: report.files)
    ),
    Row("onefold_strays", "gauge", ("node",), "What was kept aside on the node.", _each(lambda report: report.strays)),
    Row(
        "onefold_problems",
        "gauge",
        ("node",),
        "Problems that the node names (`onefold status`).",
        _each(lambda report: len(report.problems)),
    ),
    Row(
        "onefold_mended_total",
        "counter",
        ("node",),
        "What the node found damaged and mended since its start.",
        _each(lambda report: report.mended),
    ),
    Row(
        "onefold_commit_seconds",
        "histogram",
        (),
        "From when the leader took up a pack of changes until it was committed. Only on the node that leads.",
        _own(lambda node: node.appender.timings),
    ),
    Row(
        "onefold_everywhere_seconds",
        "histogram",
        (),
        "From the first sign of an edit until it was in place on every live node, as the leader saw it.",
        _own(lambda node: node.reporter.timings),
    ),
    Row(
        "onefold_queue_length",
        "gauge",
        ("queue",),
        "What waits on this node: places to `look` at, batches to `append`, files to `place`, contents to `fetch`.",
        _queues,
    ),
    Row(
        "onefold_peer_bytes_total",
        "counter",
        ("direction",),
        "Bytes that came `in` from other nodes and went `out` to them, without etcd's.",
        _peer_bytes,
    ),
    Row(
        "onefold_log_bytes",
        "gauge",
        (),
        "The size of etcd's database, as it was a few seconds ago; 0 while that is not known.",
        _own(lambda node: node.stored_bytes),
    ),
    Row(
        "onefold_api_requests_total",
        "counter",
        ("method", "operation", "status"),
        "Answers of this node's API.",
        _answers,
    ),
    Row("onefold_api_seconds", "histogram", ("operation",), "Until an answer of the API began.", _answer_times),
    Row(
        "onefold_api_bytes_total",
        "counter",
        ("direction",),
        "Bytes of contents and answers that came `in` and went `out` through the API.",
        _api_bytes,
    ),
    Row(
        "onefold_event_streams",
        "gauge",
        (),
        "Who follows the events of this node.",
        lambda look: [((), look.service.feed.following)],
    ),
)
