"""The description of the API: valid, committed as it is served, and true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from openapi_spec_validator import validate

from onefold.api.answers import ApiProblem, NodeStatus
from onefold.api.app import OPERATIONS
from onefold.api.openapi import PATH, document, encode
from onefold.core.messages import Problem, Report
from onefold.state import State, as_data

DOCS = Path(__file__).parent.parent.parent / "docs"
DESCRIBED: dict[str, Any] = json.loads(encode(document(OPERATIONS)))


def test_it_is_valid() -> None:
    validate(DESCRIBED)


def test_what_is_committed_is_current() -> None:
    made = encode(document(OPERATIONS))
    assert (DOCS / "openapi.json").read_bytes() == made, "run scripts/write_api_docs.py, then scripts/write_docs.py"


def test_it_is_served_to_everybody(asking: httpx.Client) -> None:
    answer = asking.get(PATH, headers={"Authorization": ""}).raise_for_status()
    assert answer.json() == DESCRIBED


def test_operations_are_described_and_named_once() -> None:
    names = [each["operationId"] for at in DESCRIBED["paths"].values() for each in at.values()]
    assert len(names) == len(set(names)) >= len(OPERATIONS)
    assert len({(o.method, o.path) for o in OPERATIONS}) == len(OPERATIONS)


def test_every_method_of_a_path_is_named_when_another_is_asked_for(asking: httpx.Client) -> None:
    answer = asking.patch("/v1/files/x")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}


def test_the_status_that_is_told_is_the_one_described() -> None:
    report = Report("a", 1, "voter", "b", 1, 5, 5, 5, (), 1, 0, (Problem("p"),), (), False, True)
    for told in as_data(State.of({"a": report, "c": None}))["nodes"]:
        assert told.keys() == {field.name for field in msgspec.structs.fields(NodeStatus)}
        msgspec.convert(told, NodeStatus, strict=True)


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/files/%00", "/v1/list/nowhere", "/v1/events?since=x"])
def test_errors_are_as_described(asking: httpx.Client, path: str) -> None:
    answer = asking.get(path)
    assert msgspec.json.decode(answer.content, type=ApiProblem).status == answer.status_code >= 400


def test_a_parameter_that_is_misspelt_is_not_passed_over(asking: httpx.Client) -> None:
    answer = asking.delete("/v1/files/nothing?recursiv=true")
    assert (answer.status_code, answer.json()["fix"]) == (400, "did you mean recursive?")
    assert asking.get("/v1/status?x=1").json()["fix"] == "there are: none"
    assert asking.get("/v1/list/?limit=1&limit=2").status_code == 400
