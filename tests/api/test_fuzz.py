"""The API fuzzed from its own description, against a real node: nothing is answered with 5xx, and nothing in a way that
is not described.

Each operation gets requests that are as described, and some that are not. `GET /v1/events` has no end, and tests of its
own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from cluster import Demo, demo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from onefold.api.app import OPERATIONS
from onefold.api.openapi import document, encode

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
ENDLESS = "/v1/events"
SHORT = 6
LONG = 100

SCHEMA: Any = schemathesis.openapi.from_dict(json.loads(encode(document(OPERATIONS))))
FUZZED = [each for found in SCHEMA.get_all_operations() if (each := found.ok()).path != ENDLESS]
each_operation = pytest.mark.parametrize("operation", FUZZED, ids=lambda each: each.label)


class Target:
    """A node of a cluster of its own."""

    def __init__(self, cluster: Demo) -> None:
        self.url = f"https://{cluster.nodes['node1'].api.listen}"
        self.authority = str(cluster.data / ".onefold" / "authority" / "ca.crt")
        secret = (cluster.data / ".onefold" / "token").read_text().strip()
        self.headers = {"Authorization": f"Bearer {secret}"}

    def check(self, case: Case) -> None:
        # A parameter that has no value is not sent: without it, the request may well be as described.
        vanishes = any(value is None or value in ([], {}) for value in (case.query or {}).values())
        checks = [each for each in CHECKS if not (vanishes and each is negative_data_rejection)]
        case.call_and_validate(self.url, headers=self.headers, verify=self.authority, checks=checks, timeout=30)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with demo(tmp_path_factory.mktemp("fuzz") / "data", nodes=1) as cluster:
        yield Target(cluster)


def fuzz(target: Target, operation: Any, examples: int) -> None:
    """So many requests, some of which are not as described, where that is possible."""
    modes = [GenerationMode.POSITIVE]
    if operation.query or operation.body:
        modes.append(GenerationMode.NEGATIVE)
    strategy = st.one_of([operation.as_strategy(mode, headers={}) for mode in modes])

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=strategy)
    def run(case: Case) -> None:
        target.check(case)

    run()


@each_operation
def test_a_few_requests_of_each_kind(target: Target, operation: Any) -> None:
    fuzz(target, operation, SHORT)


@pytest.mark.slow
@pytest.mark.timeout(600)
@each_operation
def test_many_requests_of_each_kind(target: Target, operation: Any) -> None:
    fuzz(target, operation, LONG)
