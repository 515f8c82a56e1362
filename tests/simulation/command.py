"""`./scripts/simulate.sh`: many runs, on all cores; or one, told step by step."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator

from simulation.cluster import Outcome, simulate
from simulation.virtual import Stuck

COLLECT_EVERY = 20
FAILURES_MAX = 20
RUN_SECONDS_MAX = 60
"""Of real time: only what spins within one callback takes that long."""


def main() -> int:
    given = _arguments()
    if given.trace:
        outcome = run_one(given.seed, trace=True, hooked=given.hooks)
        print("\n".join(outcome.trace))
        print(_summary(outcome))
        return 1 if outcome.failure else 0
    first = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 40)
    begun = time.monotonic()
    until = begun + given.minutes * 60 if given.minutes else None
    total: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    failed = []
    for outcome in _outcomes(first, given.runs, until, given.jobs, given.hooks):
        total.update(runs=1, steps=outcome.steps, calls=outcome.calls, entries=outcome.entries)
        total.update(commands=outcome.commands, edits=outcome.edits)
        faults.update(outcome.faults)
        if given.verbose:
            print(_summary(outcome))
        if outcome.failure:
            failed.append(outcome)
            print(f"seed {outcome.seed} fails: {outcome.failure}")
            print(f"    ./scripts/simulate.sh --seed {outcome.seed} --trace", flush=True)
            if given.until_failure or len(failed) >= FAILURES_MAX:
                break
    minutes = (time.monotonic() - begun) / 60
    print(
        f"{total['runs']} runs from seed {first}, {len(failed)} failed; "
        f"{total['edits']} edits, {total['entries']} entries, {total['commands']} commands, {total['steps']} steps, "
        f"{total['calls']} syscalls; {total['runs'] / minutes:.0f} runs and {total['steps'] / minutes:.0f} steps a "
        f"minute"
    )
    print("faults: " + (", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())) or "none"))
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate.sh", description="Whole clusters in one process, from seeds.")
    parser.add_argument("--seed", type=int, help="the first seed (else a new one is drawn)")
    parser.add_argument("--runs", type=int, help="how many seeds, from that one on")
    parser.add_argument("--minutes", type=float, help="new seeds for so long")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (all cores)")
    parser.add_argument("--trace", action="store_true", help="one run, told step by step")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--hooks", action="store_true", help="with hooks on every node, which are to miss nothing")
    parser.add_argument("--verbose", action="store_true", help="a line for each run")
    given = parser.parse_args()
    if given.trace and given.seed is None:
        parser.error("--trace needs --seed")
    if given.runs is None and given.minutes is None:
        given.runs = 1 if given.seed is not None else 100
    return given


def _outcomes(first: int, runs: int | None, until: float | None, jobs: int, hooked: bool) -> Iterator[Outcome]:
    def seeds() -> Iterator[int]:
        seed = first
        while (runs is None or seed < first + runs) and (until is None or time.monotonic() < until):
            yield seed
            seed += 1

    if jobs == 1:
        for seed in seeds():
            yield run_one(seed, hooked=hooked)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        waiting: list[multiprocessing.pool.AsyncResult[Outcome]] = []
        for seed in seeds():
            waiting.append(pool.apply_async(run_one, (seed, False, hooked)))
            while len(waiting) >= 2 * jobs:
                yield waiting.pop(0).get()
        for each in waiting:
            yield each.get()


_done = 0


def _too_long(number: int, frame: object) -> None:
    raise Stuck(f"no end after {RUN_SECONDS_MAX} s of real time")


def run_one(seed: int, trace: bool = False, hooked: bool = False) -> Outcome:
    """One run, without the collector of garbage: what it does depends on the seed alone."""
    global _done
    gc.disable()
    sys.unraisablehook = lambda _: None  # what ended lives leave behind
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(RUN_SECONDS_MAX)
    outcome = simulate(seed, trace, hooked)
    signal.alarm(0)
    _done += 1
    if _done % COLLECT_EVERY == 0:
        gc.collect()
    return outcome


def _summary(outcome: Outcome) -> str:
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.faults.items())) or "no faults"
    return (
        f"seed {outcome.seed}: {outcome.failure or 'holds'}; {outcome.edits} edits, {outcome.entries} entries, "
        f"{outcome.steps} steps in {outcome.seconds:.1f} s, {outcome.calls} syscalls; {faults}; digest {outcome.digest}"
    )
