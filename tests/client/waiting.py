"""`AsyncClient` for tests that wait: so that whatever holds for `Client` is asked of it as well."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from onefold.client import AsyncClient


class Waiting:
    """Every method runs to its end on a loop of its own; what is iterated over asynchronously can be as usual."""

    def __init__(self, *arguments: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments)

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            told = method(*arguments, **named)
            if inspect.iscoroutine(told):
                return self._run(told)
            return self._iterate(told) if inspect.isasyncgen(told) else self._within(told)

        return call

    def _run(self, work: Any) -> Any:
        async def run() -> Any:
            return await work

        return self._runner.run(run())

    def _iterate(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._run(anext(items))
                except StopAsyncIteration:
                    return
        finally:
            self._run(items.aclose())

    @contextmanager
    def _within(self, entered: Any) -> Iterator[Any]:
        arriving = self._run(entered.__aenter__())
        try:
            yield _Items(self, arriving)
        finally:
            self._run(entered.__aexit__(None, None, None))


class _Items:
    """Content that arrives."""

    def __init__(self, waiting: Waiting, arriving: AsyncIterator[bytes]) -> None:
        self._waiting = waiting
        self._arriving = arriving

    def __iter__(self) -> Iterator[bytes]:
        return self._waiting._iterate(self._arriving.__aiter__())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arriving, name)
