"""`onefold verify`: every live node reads everything again, and says what differs.

A node is asked to begin, and then how far it is, again and again: however long it takes, and if it is started anew
meanwhile, it begins again. A node whose catalogue is odd or damaged compares nothing else; with `--repair` it makes its
catalogue anew, and is then asked once more.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

from onefold.admin import Client
from onefold.config import Config, Member
from onefold.core.messages import Ask, BeginAnew, Cluster, Finding, Message, Verified, Verify
from onefold.demo_view import printable
from onefold.errors import OperatorError, PeerError, PeerGone, PeerRefused

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 30.0
POLL_SECONDS = 0.25
GONE_SECONDS = 60.0
"""How long a node that answered before may be gone, or make no progress in catching up."""
TRIES = 3
"""How often a node that breaks off is asked to begin again."""

EXIT_DIFFERENT = 1

Progress = Callable[[str, int, int], None]
"""Called with a node, the bytes read and how many there are, about."""


class Verdict:
    """What one node said. `failed`: why it could not be verified to the end; "" for down, None for done."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.findings: list[Finding] = []
        self.omitted = 0
        self.failed: str | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is left that differs. A node that is down says nothing, and fails nothing."""
        return not self.failed and not self.omitted and all(finding.mended for finding in self.findings)


def run(config: Config, repair: bool, as_json: bool) -> int:
    """Verify, and print what was found; the exit code. Raises `OperatorError` when no node answers."""
    verdicts = asyncio.run(_with_progress(config, repair))
    if all(verdict.failed == "" for verdict in verdicts):
        raise OperatorError("no node answers", "start one: onefold demo, or onefold run")
    print(_as_json(verdicts) if as_json else "\n".join(_lines(verdicts)))  # noqa: T201
    return 0 if all(verdict.sound for verdict in verdicts) else EXIT_DIFFERENT


async def _with_progress(config: Config, repair: bool) -> list[Verdict]:
    if not sys.stderr.isatty():
        return await _all(config, repair, lambda *_: None)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {member.name: bar.add_task(member.name, total=None) for member in config.members}
        return await _all(
            config,
            repair,
            lambda node, done, total: bar.update(tasks[node], completed=done, total=max(done, total) or None),
        )


async def _all(config: Config, repair: bool, progress: Progress) -> list[Verdict]:
    return await asyncio.gather(*(_Verification(config, member, repair, progress).run() for member in config.members))


class _Verification:
    """Of one node."""

    def __init__(self, config: Config, member: Member, repair: bool, progress: Progress) -> None:
        self._config = config
        self._member = member
        self._repair = repair
        self._progress = progress
        self._client: Client | None = None
        self.verdict = Verdict(member.name)

    async def run(self) -> Verdict:
        verdict = self.verdict
        try:
            if await self._verify() and self._repair and await self._begin_anew() and not await self._verify():
                verdict.findings[0] = Finding(verdict.findings[0].what, "", True)
        except PeerGone as error:
            verdict.failed = str(error) if self._client is not None else ""
        except PeerError as error:
            verdict.failed = str(error)
        finally:
            if self._client is not None:
                self._client.close()
        return verdict

    async def _verify(self) -> bool:
        """Let the node read everything, and take in what it finds; answers whether its catalogue is odd."""
        first, tries = len(self.verdict.findings), 0
        while True:
            del self.verdict.findings[first:]
            tries += 1
            try:
                return await self._run_through(secrets.token_hex(8), first)
            except PeerGone:
                if self._client is None or tries == TRIES:
                    raise
                await self._reconnect()

    async def _run_through(self, name: str, first: int) -> bool:
        while True:
            answer = await self._ask(Verify(name, self._repair, len(self.verdict.findings) - first))
            if not isinstance(answer, Verified):
                raise PeerRefused(f"{self._member.name} gave an answer to another question", "update Onefold there")
            self._progress(self._member.name, answer.done, answer.total)
            self.verdict.findings += answer.findings
            if answer.finished:
                self.verdict.omitted = answer.omitted
                return answer.odd
            if not answer.findings:
                await asyncio.sleep(POLL_SECONDS)

    async def _begin_anew(self) -> bool:
        """Let the node make its catalogue anew, and wait until its folder is in place. Answers whether it was willing.

        Raises `PeerGone` when it does not get on.
        """
        before = await self._applied()
        try:
            await self._ask(BeginAnew())
        except PeerRefused:
            return False
        except PeerGone:
            pass  # it may have begun: what it says afterwards tells
        assert self._client is not None
        self._client.close()
        best, since = -1, time.monotonic()
        while time.monotonic() - since < GONE_SECONDS:
            await asyncio.sleep(POLL_SECONDS)
            try:
                applied, in_place = await self._progress_of_catching_up()
            except PeerGone:
                continue
            if in_place >= before:
                return True
            if applied > best:
                best, since = applied, time.monotonic()
        raise PeerGone(f"{self._member.name} does not get on with its catalogue", "see `onefold status`")

    async def _applied(self) -> int:
        return (await self._progress_of_catching_up())[0]

    async def _progress_of_catching_up(self) -> tuple[int, int]:
        answer = await self._ask(Ask())
        if not isinstance(answer, Cluster):
            raise PeerRefused(f"{self._member.name} gave an answer to another question", "update Onefold there")
        return answer.reports[0].applied, answer.reports[0].in_place

    async def _reconnect(self) -> None:
        """To a node that answered before, and may be gone for a while. Raises `PeerGone` when it stays so."""
        since = time.monotonic()
        while True:
            try:
                await self._applied()
                return
            except PeerGone:
                if time.monotonic() - since > GONE_SECONDS:
                    raise
                await asyncio.sleep(POLL_SECONDS)

    async def _ask(self, message: Message) -> Message:
        """The node's answer, on a connection that is made again when it is lost. Raises `PeerError`."""
        if self._client is None or self._client.closed:
            self._client = await Client.connect(self._config, self._member, CONNECT_SECONDS)
        try:
            return await self._client.ask(message, ANSWER_SECONDS)
        except PeerGone:
            self._client.close()
            raise


def _lines(verdicts: list[Verdict]) -> list[str]:
    lines = []
    for verdict in verdicts:
        for finding in verdict.findings:
            where = f"{printable(finding.where)}: " if finding.where else ""
            lines.append(f"{verdict.node}: {where}{finding.what}{' (mended)' if finding.mended else ''}")
        if verdict.omitted:
            lines.append(f"{verdict.node}: and {verdict.omitted} more")
        if verdict.failed is not None:
            lines.append(f"{verdict.node}: {verdict.failed or 'down, not verified'}")
        elif not verdict.findings:
            lines.append(f"{verdict.node}: all is well")
    return lines


def _as_json(verdicts: list[Verdict]) -> str:
    return json.dumps({"nodes": [_facts(verdict) for verdict in verdicts]}, indent=2)


def _facts(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.node,
        "verified": verdict.failed is None,
        "failed": verdict.failed,
        "omitted": verdict.omitted,
        "findings": [{"what": f.what, "where": f.where, "mended": f.mended} for f in verdict.findings],
    }
