"""Which cluster a command means: the settings of one of its nodes."""

from __future__ import annotations

import os
from pathlib import Path

from onefold.config import Config, load
from onefold.demo_dir import configs, exists
from onefold.errors import UserError

VARIABLE = "ONEFOLD_CONFIG"
DEMO = Path("data")
BESIDE = ".onefold/*/node.toml"
"""Where `onefold init` and `onefold join` put them, from the directory that holds the folder."""
USUAL = (Path("/etc/onefold/node.toml"), Path("/var/lib/onefold/node.toml"))


def find(config: Path | None, data: Path | None) -> Config:
    """The settings in `config`, or of the first node of the demo in `data`. Without either, what `ONEFOLD_CONFIG`
    names, else the demo in `./data`, else the only node whose folder is in this directory, else what stands in one of
    the usual places.

    Raises `UserError` when there is none, or it is wrong.
    """
    if config is not None:
        return load(config)
    if data is not None:
        return configs(data.absolute())[0]
    if named := os.environ.get(VARIABLE):
        return load(Path(named))
    if exists(DEMO.absolute()):
        return configs(DEMO.absolute())[0]
    here = sorted(Path().absolute().glob(BESIDE))
    if len(here) > 1:
        raise UserError(f"there are several nodes here ({', '.join(map(str, here))})", "name one with --config")
    for place in (*here, *USUAL):
        if place.exists():
            return load(place)
    raise UserError(
        f"there is no demo in {DEMO.absolute()}, and no settings in {', '.join(map(str, (BESIDE, *USUAL)))}",
        f"name a node's settings with --config or {VARIABLE}, or a demo's directory with --data",
    )
