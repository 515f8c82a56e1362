"""What Prometheus asks a node, by the table of metrics; and the page about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from onefold.api.metric_table import METRICS, Look, Row, Sample
from onefold.api.operation import Operation
from onefold.api.service import Service
from onefold.core.roster import Role
from onefold.node.measure import BOUNDS_SECONDS, Timings


async def metrics(service: Service, request: Request) -> Response:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service))
    ProcessCollector(registry=registry)
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), media_type=media_type)


class _Collector(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        node = self._service.running
        reports = {} if node is None else {report.node: report for report in node.reporter.known()}
        look = Look(self._service, node, reports)
        for row in METRICS:
            yield _family(row, row.read(look))


def _family(row: Row, samples: Iterable[Sample]) -> Metric:
    if row.kind == "histogram":
        histogram = HistogramMetricFamily(row.name, row.help, labels=row.labels)
        for labels, timings in samples:
            assert isinstance(timings, Timings)
            histogram.add_metric(labels, list(_buckets(timings)), timings.seconds)
        return histogram
    family = (CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily)(
        row.name, row.help, labels=row.labels
    )
    for labels, value in samples:
        assert not isinstance(value, Timings)
        family.add_metric(labels, value)
    return family


def _buckets(timings: Timings) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*map(str, BOUNDS_SECONDS), "+Inf"), timings.counts, strict=True):
        total += count
        yield bound, total


def documentation() -> str:
    """`docs/metrics.md`, from the table."""
    lines = [
        "# Metrics",
        "",
        "Every node serves them at `/metrics` of its API, to whoever has a token that may read:",
        "",
        "```yaml",
        *SCRAPE.splitlines(),
        "```",
        "",
        "<!-- Made by `python scripts/write_api_docs.py` from onefold/api/metric_table.py: change that. -->",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for row in METRICS:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help} |")
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS_SECONDS)
    lines += [
        "",
        f"Histograms have buckets up to {bounds} seconds.",
        "The usual `process_…` metrics (memory, processor time, open files, start) are there as well. Counters",
        "begin at 0 with the process, and with each life of the node in it.",
        "",
    ]
    return "\n".join(lines)


SCRAPE = """\
scrape_configs:
  - job_name: onefold
    scheme: https
    tls_config: { ca_file: /etc/prometheus/onefold-ca.crt }
    authorization: { credentials_file: /etc/prometheus/onefold-token }
    static_configs:
      - targets: ["10.0.0.1:7404", "10.0.0.2:7404", "10.0.0.3:7404"]
"""

OPERATIONS = (
    Operation(
        "GET",
        "/metrics",
        Role.READ,
        metrics,
        "Metrics of this node, and of what it knows of the others",
        answer=str,
        media="text/plain",
    ),
)
