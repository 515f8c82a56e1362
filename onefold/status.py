"""`onefold status`, `wait`, `confirm`, `leader`: questions to the nodes of a cluster, from outside.

Every node is asked about itself, all at once, so that what is shown of a node is its own word, not what another one
remembers of it; a node that does not answer is down.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any

from onefold.admin import Client
from onefold.config import Config, Member
from onefold.core.messages import (
    Ask,
    Cluster,
    Confirm,
    Confirmed,
    Flushed,
    Message,
    Moved,
    MoveLeader,
    Problem,
    Report,
    Wait,
)
from onefold.errors import OperatorError, PeerAway, PeerError, PeerGone, PeerRefused, UserError
from onefold.state import State, as_data

ASK_SECONDS = 3.0
MOVE_SECONDS = 10.0
LOOK_SECONDS = 0.2


def cluster(config: Config) -> State:
    """Ask every member."""
    answers = asyncio.run(_reports(config))
    reports = {name: answer if isinstance(answer, Report) else None for name, answer in answers.items()}
    return State.of(reports, {name: answer for name, answer in answers.items() if isinstance(answer, Problem)})


def wait(config: Config, seconds: float) -> int:
    """Returns the index up to which every live node has everything in place. Raises `PeerError`.

    On a terminal, a progress bar for every node that catches up.
    """
    asked = _ask_any(config, Wait(seconds), seconds + ASK_SECONDS)
    answer = asyncio.run(_with_progress(config, asked) if sys.stderr.isatty() else asked)
    if not isinstance(answer, Flushed):
        raise PeerRefused("a node gave an answer to another question", "run the same version of Onefold everywhere")
    return answer.index


def move(config: Config, node: str) -> Moved:
    """Make `node` the leader. Raises `UserError` for a name that is no voter's, `PeerError` if it did not happen."""
    _member(config, node)
    answer = asyncio.run(_ask_any(config, MoveLeader(node), MOVE_SECONDS))
    if not isinstance(answer, Moved):
        raise PeerRefused("a node gave an answer to another question", "run the same version of Onefold everywhere")
    return answer


def confirm(config: Config, node: str | None) -> tuple[str, int]:
    """Confirm what is gone from the folder of `node` (None: of the only one that asks): its name, and how many removals
    that means. Raises `UserError` when several ask, or `node` is none of the members, and `PeerError`."""
    if node is None:
        state = cluster(config)
        require_answer(state)
        asking = [name for name, report in state.nodes.items() if report is not None and report.missing]
        if len(asking) > 1:
            raise UserError(f"several nodes ask ({', '.join(asking)})", "name one: onefold confirm NODE")
        if not asking:
            return config.name, 0
        (node,) = asking
    answer = asyncio.run(_ask(config, _member(config, node), Confirm(), ASK_SECONDS))
    if not isinstance(answer, Confirmed):
        raise PeerRefused("a node gave an answer to another question", "run the same version of Onefold everywhere")
    return node, answer.removals


def _member(config: Config, node: str) -> Member:
    """The member called `node`. Raises `UserError` when there is none."""
    import difflib

    members = {member.name: member for member in config.members}
    if node not in members:
        close = difflib.get_close_matches(node, members, 1)
        raise UserError(
            f"there is no node {node!r}", f"did you mean {close[0]}?" if close else f"there are {', '.join(members)}"
        )
    return members[node]


def is_live(config: Config, name: str) -> bool:
    """Whether the node called `name` answers. Raises `UserError` when there is none."""
    _member(config, name)
    return cluster(config).nodes[name] is not None


def require_answer(state: State) -> None:
    """Raises `OperatorError` when no node answered."""
    if all(report is None for report in state.nodes.values()):
        for problem in state.refused.values():
            raise PeerRefused(problem.what, problem.fix)
        raise OperatorError(f"no node answers ({', '.join(state.nodes)})", "start one: onefold demo, or onefold run")


def require_leader(state: State) -> str:
    """Raises `OperatorError` when nobody leads."""
    if not state.leader:
        raise OperatorError("nobody leads just now", "start nodes until a majority of the voters is up")
    return state.leader


def as_json(state: State) -> str:
    return json.dumps(as_data(state), indent=2)


def show(state: State) -> None:
    """On a terminal a table, else lines; problems below."""
    from onefold.demo_view import Seen, hook_line, problems, rows, sentence, table

    seen = [Seen(name, False, None, report) for name, report in state.nodes.items()]
    lines = [f"{node.name}: {hook_line(hook)}" for node in seen if node.report for hook in node.report.hooks]
    lines += [f"{node.name}: {what}" for node in seen if node.report for what in problems(node.report)]
    lines += [f"{name}: {sentence(problem)}" for name, problem in state.refused.items()]
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(table(rows(seen)))
        for line in lines:
            console.print(line, markup=False, highlight=False)
        return
    for row in [f"leader {state.leader or '-'} term {state.term}", *("  ".join(row) for row in rows(seen)), *lines]:
        print(row)  # noqa: T201


async def _with_progress(config: Config, asked: Coroutine[Any, Any, Message]) -> Message:
    """What is `asked`; until it is answered, how far the nodes are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description} catches up"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[what]}"),
    )
    tasks: dict[str, TaskID] = {}
    answer = asyncio.ensure_future(asked)
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        while not answer.done():
            reports = await _reports(config)
            for name, report in reports.items():
                of = report.progress if isinstance(report, Report) else None
                if of is not None:
                    task = tasks[name] if name in tasks else tasks.setdefault(name, bars.add_task(name, what=of.what))
                    bars.update(task, completed=of.done, total=of.total or None, what=of.what)
            await asyncio.wait((answer,), timeout=LOOK_SECONDS)
    return await answer


async def _reports(config: Config) -> dict[str, Report | Problem | None]:
    reports = await asyncio.gather(*(_report(config, member) for member in config.members))
    return {member.name: report for member, report in zip(config.members, reports, strict=True)}


async def _report(config: Config, member: Member) -> Report | Problem | None:
    """What `member` says of itself; a problem when it does not let us in; None when it does not answer."""
    try:
        answer = await _ask(config, member, Ask(), ASK_SECONDS)
    except PeerGone:
        return None
    except PeerError as error:
        return Problem(error.what, "", error.fix)
    return answer.reports[0] if isinstance(answer, Cluster) else None


async def _ask(config: Config, member: Member, message: Message, seconds: float) -> Message:
    client = await Client.connect(config, member, ASK_SECONDS)
    try:
        return await client.ask(message, seconds)
    finally:
        client.close()


async def _ask_any(config: Config, message: Message, seconds: float) -> Message:
    """The answer of the first member that lets us in. Raises `PeerError`: its refusal, or that there is none."""
    refused: PeerRefused | None = None
    for member in config.members:
        try:
            client = await Client.connect(config, member, ASK_SECONDS)
        except PeerGone:
            continue
        except PeerRefused as error:
            refused = error
            continue
        try:
            return await client.ask(message, seconds)
        except PeerAway as error:
            refused = error
        finally:
            client.close()
    if refused is not None:
        raise refused
    names = ", ".join(member.name for member in config.members)
    raise PeerGone(f"no node answers ({names})", "start one: onefold demo, or onefold run")
