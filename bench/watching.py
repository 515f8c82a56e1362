"""What every node of a demo says of itself, asked again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from onefold.client import Client

from onefold.config import Config
from onefold.core.messages import Ask, Cluster, Report
from onefold.demo import digest_of
from onefold.errors import PeerError

ASK_EVERY_SECONDS = 0.01
ASK_SECONDS = 0.5


class Watching:
    """The last word of each node about itself; a node that does not answer has none."""

    def __init__(self, configs: Iterable[Config]) -> None:
        self._configs = {config.name: config for config in configs}
        self._reports: dict[str, Report] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch(config)) for config in self._configs.values()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    def leader(self) -> tuple[str, int]:
        """The node that says that it leads, of the newest term, and that term; "" and 0 when none does."""
        leading = [report for report in self._reports.values() if report.role == "leader"]
        newest = max(leading, key=lambda report: report.term, default=None)
        return (newest.node, newest.term) if newest else ("", 0)

    def of(self, node: str) -> Report | None:
        """The last word of `node`."""
        return self._reports.get(node)

    def at_rest(self) -> bool:
        """Whether all nodes are up, follow the same leader, and have the same catalogue in place."""
        reports = list(self._reports.values())
        return (
            len(reports) == len(self._configs)
            and all(report.ready and report.applied == report.in_place for report in reports)
            and len({(report.leader, report.term, report.applied, digest_of(report)) for report in reports}) == 1
        )

    async def _watch(self, config: Config) -> None:
        while True:
            with contextlib.suppress(PeerError):  # it is down: ask again
                client = await Client.connect(config, config.me, ASK_SECONDS)
                try:
                    while True:
                        answer = await client.ask(Ask(), ASK_SECONDS)
                        if isinstance(answer, Cluster):
                            self._reports[config.name] = answer.reports[0]
                        await asyncio.sleep(ASK_EVERY_SECONDS)
                finally:
                    client.close()
            self._reports.pop(config.name, None)
            await asyncio.sleep(ASK_EVERY_SECONDS)
