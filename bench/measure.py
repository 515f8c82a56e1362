"""When folders are identical, what crossed the loopback interface, and what a list of figures comes to."""

from __future__ import annotations

import hashlib
import math
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

IGNORED = ".onefold"
"""Each node's own directory in the root of its folder."""
SAMPLE = 200
POLL_SECONDS = 0.02
READ_BYTES = 1 << 20

Listing = dict[str, int]
"""The size of every file by its path, and -1 for directories."""


def loopback_bytes() -> int:
    """What the loopback interface has received since the machine started; everybody's traffic on it."""
    with open("/proc/net/dev") as interfaces:
        for line in interfaces:
            name, _, counters = line.partition(":")
            if name.strip() == "lo":
                return int(counters.split()[0])
    return 0


def listing(root: Path) -> Listing:
    """What is in `root`. What vanishes meanwhile is left out: a later look decides."""
    found: Listing = {}
    below = [""]
    while below:
        prefix = below.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as entries:
                for entry in entries:
                    path = prefix + entry.name
                    if path == IGNORED:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        found[path] = -1
                        below.append(path + "/")
                    else:
                        found[path] = entry.stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def identical(folders: Sequence[Path], sample: int | None) -> bool:
    """Whether they hold the same files with the same bytes; of `sample` files by chance if given, else of all."""
    first, *others = [listing(folder) for folder in folders]
    if any(other != first for other in others):
        return False
    files = [path for path, size in first.items() if size >= 0]
    if sample is not None and len(files) > sample:
        files = random.sample(files, sample)
    return all(_same(path, folders) for path in files)


def until_identical(folders: Sequence[Path], since: float, limit: float) -> float:
    """Seconds from `since` (`time.perf_counter`) until `folders` were seen to be identical; infinity after `limit`.

    A sample is compared until it is the same, and then all: what this costs is in the figure, for every tool alike.
    """
    while True:
        if identical(folders, SAMPLE) and identical(folders, None):
            return time.perf_counter() - since
        if time.perf_counter() - since > limit:
            return math.inf
        time.sleep(POLL_SECONDS)


def holds(path: Path, content: bytes) -> bool:
    """Whether just these bytes stand at `path`."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def quantile(figures: Sequence[float], part: float) -> float:
    """The figure below which `part` of all lie (the nearest rank). Raises `ValueError` when there is none."""
    if not figures:
        raise ValueError("no figures")
    return sorted(figures)[min(len(figures) - 1, int(len(figures) * part))]


def median(figures: Sequence[float]) -> float:
    """The middle one, or the mean of the middle two."""
    ordered = sorted(figures)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _same(path: str, folders: Sequence[Path]) -> bool:
    try:
        first, *others = folders
        digest = _digest(first / path)
        return all(_digest(other / path) == digest for other in others)
    except FileNotFoundError:
        return False


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.digest()
