"""docs/api.md, from docs/openapi.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import MADE

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
METHODS = ("get", "head", "put", "post", "delete", "patch")


def page() -> str:
    """ "" as long as there is no description of the API."""
    if not SCHEMA.exists():
        return ""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    lines = [f"# {schema['info'].get('title', 'HTTP API')}", "", schema["info"].get("description", "").strip(), ""]
    lines += [MADE.format("docs/openapi.json"), "", "The same for programs: [openapi.json](openapi.json)."]
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method in item:
                lines += _operation(schema, method, path, item[method], item.get("parameters", []))
    return "\n".join(lines) + "\n"


def _operation(schema: Any, method: str, path: str, operation: Any, shared: list[Any]) -> Iterator[str]:
    yield from ("", f"## {method.upper()} {path}", "")
    for said in (operation.get("summary"), operation.get("description")):
        if said:
            yield from (said.strip(), "")
    parameters = [_resolved(schema, each) for each in (*shared, *operation.get("parameters", []))]
    if parameters:
        yield from ("| parameter | in | meaning |", "|---|---|---|")
        for each in parameters:
            must = "" if not each.get("required") or each["in"] == "path" else " Must be given."
            yield f"| `{each['name']}` | {each['in']} | {_cell(each.get('description', ''))}{must} |"
        yield ""
    yield from ("| answer | meaning |", "|---|---|")
    for status, answer in operation.get("responses", {}).items():
        yield f"| {status} | {_cell(_resolved(schema, answer).get('description', ''))} |"


def _resolved(schema: Any, value: Any) -> Any:
    """`value`, or what it refers to."""
    reference = value.get("$ref")
    if reference is None:
        return value
    found = schema
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
