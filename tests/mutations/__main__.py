"""`./scripts/mutation_check.sh`: sees a test fail for each mutation of the table; or prints the table."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter

from mutations.check import Verdict, copied
from mutations.table import MUTATIONS, is_slow, markdown

WHY_MAX = 200


def main() -> int:
    given = _arguments()
    if given.table:
        print(markdown())
        return 0
    chosen = [
        (mutation, test)
        for mutation in MUTATIONS
        for test in mutation.tests
        if given.only in (None, mutation.guarantee)
        and given.k in f"{mutation.file} {mutation.what} {test}"
        and not (given.quick and is_slow(test))
    ]
    if not chosen:
        print("no mutation is chosen by these options", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is taken down
    begun = time.monotonic()
    verdicts: Counter[Verdict] = Counter()
    with copied() as copy:
        for mutation, test in chosen:
            verdict, why = copy.check(mutation, test)
            verdicts[verdict] += 1
            print(f"{mutation.guarantee} {verdict.value}: {mutation.file}: {mutation.what}")
            print(f"    {test}: {why[:WHY_MAX]}", flush=True)
    told = ", ".join(f"{count} {verdict.value}" for verdict, count in verdicts.items())
    print(f"{len(chosen)} tried: {told}; {time.monotonic() - begun:.0f} s")
    return 0 if set(verdicts) == {Verdict.CAUGHT} else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mutation_check.sh", description="Breaks a copy of the code line by line, and sees a test fail each time."
    )
    parser.add_argument("--only", metavar="G3", help="those of one guarantee")
    parser.add_argument("-k", metavar="TEXT", default="", help="those with this in their file, description or test")
    parser.add_argument("--quick", action="store_true", help="without the tests of whole clusters")
    parser.add_argument("--table", action="store_true", help="print the table of GUARANTEES.md instead")
    return parser.parse_args()


sys.exit(main())
